"""Run every Python block of the documentation, page by page.

A block that starts with the comment ``# pip install NAME`` is left out where that package is not installed.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "packages/cpsc-train/README.md"]
PAGES = [page for page in [*READMES, *sorted(ROOT.glob("docs/**/*.md"))] if "```python" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for block in re.finditer(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE):
        needed = re.match(r"# pip install (\w+)\n", block[1])
        if needed and not find_spec(needed[1]):
            continue
        line = page.read_text("utf-8")[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), names)  # noqa: S102
