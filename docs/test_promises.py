"""Check that every protection on the security page names an existing test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reliability/security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)))
FILES = [*ROOT.glob("packages/*/tests/**/test_*.py"), *ROOT.glob("tools/tests/test_*.py")]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_test_exists(file, name):
    assert any(path.name == file and f"def {name}(" in path.read_text("utf-8") for path in FILES)


def test_each_row_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        assert re.search(r"test_\w+\.py::|no test; documented", row), row
