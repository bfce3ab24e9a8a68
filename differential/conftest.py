"""Import paths, and a summary of what was compared."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "differential"), str(ROOT / "benchmarks" / "core")]

import agreement  # noqa: E402


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the row of each library in the table of README.md."""
    for library in agreement.TALLIES:
        terminalreporter.write_line(" | ".join(_row(library)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if all quantities were compared and the table of README.md has other figures."""
    if session.testsfailed or session.config.option.keyword or any("::" in name for name in session.config.args):
        return
    readme = (ROOT / "differential" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines()]
    for library in agreement.TALLIES:
        row = _row(library)
        if not any(line[:3] == row[:3] and line[4:] == row[4:] for line in rows):  # rounding may differ by platform
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            print(f"\nthe table of differential/README.md must have the row | {' | '.join(row)} |")  # noqa: T201


def _row(library: str) -> list[str]:
    tally, name = agreement.TALLIES[library], library.replace("_", "-")
    return [name, version(name), f"{tally.cells:,}", f"{tally.differing:,}", str(tally.rows)]
