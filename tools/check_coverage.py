"""Check the branch coverage of each package. Usage: check_coverage.py coverage.json, as `coverage json` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LEAST = {"conformal_core": 95.0, "cpsc_rsc": 95.0, "cpsc_gsc": 95.0, "cpsc_train": 85.0}
"""Least branch coverage of each package, in %."""


def main(report: Path) -> int:
    """Print a line per package; return the exit code."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    short = False
    for package, least in LEAST.items():
        taken, branches, lines, statements = totals(files, package)
        percent = 100 * taken / max(branches, 1)
        short |= branches == 0 or percent < least
        of_lines = 100 * lines / max(statements, 1)
        limit = f"{percent:.1f} % of {branches} branches (at least {least:g})"
        print(f"{package}: {limit}, {of_lines:.1f} % of lines")  # noqa: T201
    return int(short)


def totals(files: dict[str, dict[str, dict[str, int]]], package: str) -> tuple[int, int, int, int]:
    """Return the branches taken, all branches, the lines run and all lines of a package.

    Examples
    --------
    >>> summary = {"covered_branches": 3, "num_branches": 4, "covered_lines": 9, "num_statements": 10}
    >>> totals({"packages/a/src/a/x.py": {"summary": summary}, "b.py": {"summary": summary}}, "a")
    (3, 4, 9, 10)
    """
    summaries = [file["summary"] for path, file in files.items() if f"src/{package}/" in path.replace("\\", "/")]
    keys = ("covered_branches", "num_branches", "covered_lines", "num_statements")
    taken, branches, lines, statements = (sum(one[key] for one in summaries) for key in keys)
    return taken, branches, lines, statements


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
