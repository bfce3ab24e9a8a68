"""Text of others in Markdown and LaTeX: it is shown as it is, and is never markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from cpsc_train.shown import visible

_MARKDOWN = re.compile(r"([\\`*_\[\]|$~])")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "“": "``",
    "”": "''",
}


def markdown_text(text: str) -> str:
    r"""Return text of one line for Markdown, also within a table.

    Examples
    --------
    >>> markdown_text("a|b <i> top_k")
    'a\\|b &lt;i&gt; top\\_k'
    """
    return _MARKDOWN.sub(r"\\\1", escape(visible(text, line=True), quote=False))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table in Markdown.

    Examples
    --------
    >>> markdown_table(["a", "b"], [["x|y", "1"]])
    '| a | b |\n| --- | --- |\n| x\\|y | 1 |'
    """
    lines = [[markdown_text(cell) for cell in header], ["---"] * len(header)]
    lines += [[markdown_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_text(text: str) -> str:
    r"""Return text of one line for LaTeX.

    Examples
    --------
    >>> print(latex_text(r"\input{x} 5 % a_b"))
    \textbackslash{}input\{x\} 5 \% a\_b
    """
    return "".join(_LATEX.get(sign, sign) for sign in visible(text, line=True))
