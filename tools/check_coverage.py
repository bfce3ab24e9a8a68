"""Hold each package to its share of branches. Usage: check_coverage.py coverage.json, as `coverage json` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LEAST = {"conformal_core": 95.0, "cpsc_rsc": 95.0, "cpsc_gsc": 95.0, "cpsc_train": 85.0}
"""Branches in %, of all that a package has."""


def main(report: Path) -> int:
    """Print a line a package; return the exit code."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    short = False
    for package, least in LEAST.items():
        taken, there, lines, statements = totals(files, package)
        share = 100 * taken / max(there, 1)
        short |= there == 0 or share < least
        of_lines = 100 * lines / max(statements, 1)
        print(  # noqa: T201
            f"{package}: {share:.1f} % of {there} branches (at least {least:g}), {of_lines:.1f} % of lines"
        )
    return int(short)


def totals(files: dict[str, dict[str, dict[str, int]]], package: str) -> tuple[int, int, int, int]:
    """Return branches taken and there, and lines run and there, of a package's files.

    Examples
    --------
    >>> summary = {"covered_branches": 3, "num_branches": 4, "covered_lines": 9, "num_statements": 10}
    >>> totals({"packages/a/src/a/x.py": {"summary": summary}, "b.py": {"summary": summary}}, "a")
    (3, 4, 9, 10)
    """
    mine = [seen["summary"] for path, seen in files.items() if f"src/{package}/" in path.replace("\\", "/")]
    keys = ("covered_branches", "num_branches", "covered_lines", "num_statements")
    taken, there, lines, statements = (sum(one[key] for one in mine) for key in keys)
    return taken, there, lines, statements


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
