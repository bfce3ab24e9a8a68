"""History of benchmarks: add the figures of a run, and compare them with the previous ones.

Usage: history.py HISTORY FIGURES... . FIGURES are JSON files {name: ratio}, where a larger ratio is slower; HISTORY is
a file of JSON lines, one per run. The exit code is 1 if a figure exceeds the median of the previous runs by more than
the threshold.
"""

from __future__ import annotations

import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

THRESHOLD = 1.3
"""Largest allowed ratio of a figure to the median of the previous ones; runs on shared machines differ by a fifth."""
WINDOW = 20
"""Number of previous runs that count."""
LEAST = 3
"""Number of previous runs below which nothing is compared."""


def main(history: Path, files: list[Path]) -> int:
    """Compare, print a table, add the figures to the history, and return the exit code."""
    figures = {name: value for file in files for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
    lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    past = [json.loads(line)["figures"] for line in lines][-WINDOW:]
    print(f"| benchmark | now | median of {len(past)} runs | |\n|---|---|---|---|")  # noqa: T201
    slower = []
    for name, value in figures.items():
        median = typical(name, past)
        verdict = "slower" if median is not None and value > THRESHOLD * median else ""
        slower += [name] if verdict else []
        print(f"| {name} | {value:.2f} | {'–' if median is None else f'{median:.2f}'} | {verdict} |")  # noqa: T201
    print(f"\nslower by more than {THRESHOLD - 1:.0%}: {', '.join(slower) or 'none'}")  # noqa: T201
    history.parent.mkdir(parents=True, exist_ok=True)
    entry = {"time": datetime.now(tz=UTC).isoformat(timespec="seconds"), "figures": figures}
    history.write_text("\n".join([*lines, json.dumps(entry)]) + "\n", encoding="utf-8")
    return int(bool(slower))


def typical(name: str, past: list[dict[str, float]]) -> float | None:
    """Return the median of the previous values of a figure, or None if there are too few.

    Examples
    --------
    >>> typical("a", [{"a": 1.0}, {"a": 3.0}, {"a": 2.0}, {"b": 9.0}])
    2.0
    """
    values = [figures[name] for figures in past if name in figures]
    return statistics.median(values) if len(values) >= LEAST else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
