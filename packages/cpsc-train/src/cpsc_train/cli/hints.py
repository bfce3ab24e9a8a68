"""The command that usually follows another, printed at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cpsc_train.output import Output

FLAGS = {"modules": "import"}
"""Names of options that differ from those of their fields."""


def print_next(console: Output, *commands: Sequence[str | Path]) -> None:
    """Print commands, each given by its words, so that they can be pasted into a shell."""
    for words in commands:
        console.print(f"next: {shlex.join(map(str, words))}", soft_wrap=True)


def shared(options: Any, names: Iterable[str]) -> list[str]:
    """Return the words that repeat those of the named options that differ from their defaults.

    Examples
    --------
    >>> from cpsc_train.cli.options import RunOptions
    >>> shared(RunOptions(recipe="av-digits", set=("epochs=3", "seed=1")), ["recipe", "mode", "set"])
    ['--recipe', 'av-digits', '--set', 'epochs=3', '--set', 'seed=1']
    """
    words = []
    for name in names:
        value = getattr(options, name)
        values = value if isinstance(value, tuple) else () if value == getattr(type(options), name) else (value,)
        words += [word for one in values for word in (f"--{FLAGS.get(name, name)}", str(one))]
    return words
