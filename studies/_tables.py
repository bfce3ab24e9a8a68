"""Helpers of all studies: differences with their interval, and CSV files."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

from cpsc_train.experiments.statistics import paired_difference


def difference(values: Sequence[float], plain: Sequence[float] | float = 0.0) -> str:
    """Return the mean of values − plain, paired by seed, with its 95 % interval; bold if that excludes 0."""
    plain = [plain] * len(values) if isinstance(plain, (int, float)) else plain
    mean, low, high, _ = paired_difference(values, plain)
    text = f"{mean:+.1f}" + (f" ({low:+.1f} to {high:+.1f})" if len(values) > 1 else "")
    return f"**{text}**" if low > 0 or high < 0 else text


def header(*columns: str) -> str:
    """Return the first two lines of a Markdown table."""
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|"


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table; its folder must exist."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def pack(runs: Path, packed: Path) -> float:
    """Compress the table of the runs of a benchmark, and return its processor time in seconds."""
    text = runs.read_bytes()
    packed.write_bytes(gzip.compress(text, mtime=0))
    lines = csv.DictReader(text.decode().splitlines())
    return sum(
        float(line["cpu_seconds"]) for line in lines if (line["condition"], line["inference"]) == ("clean", "plain")
    )


def record_cost(table: Path, data: str, step: str, seconds: float, command: str) -> None:
    """Write the processor time and the command of a step into a table, in place of an earlier entry."""
    costs = {}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            costs = {(row["data"], row["step"]): row for row in csv.DictReader(file)}
    costs[data, step] = {"data": data, "step": step, "cpu_seconds": f"{seconds:.0f}", "command": command}
    columns = ["data", "step", "cpu_seconds", "command"]
    write_csv(table, columns, ([row[column] for column in columns] for row in costs.values()))
