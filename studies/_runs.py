"""Runs of the comparison, read from their CSV files: figures by row, and paired differences."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.evaluation.curves import area
from cpsc_train.experiments.statistics import (
    Difference,
    holm,
    paired_difference,
    smallest_difference,
    unit_differences,
)

Line = dict[str, str]
Unit = tuple[int, int]
"""Division and seed of a run."""
Values = NDArray[np.float64]
ABSENT = "absent"
MEASURES = ("accuracy", "ece", "coverage", "size")


def read(path: Path) -> list[Line]:
    """Return the lines of a CSV file, which may be packed."""
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8", newline="") as file
    ):
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Runs:
    """All runs of a data set; every row has the same units and conditions."""

    lines: list[Line]

    @cached_property
    def rows(self) -> dict[str, dict[Unit, dict[str, Line]]]:
        """By row and unit, the line of each condition."""
        found: dict[str, dict[Unit, dict[str, Line]]] = {}
        for line in self.lines:
            unit = int(line["division"]), int(line["seed"])
            found.setdefault(line["row"], {}).setdefault(unit, {})[line["condition"]] = line
        return found

    @cached_property
    def units(self) -> list[Unit]:
        """Units of every row."""
        return sorted(next(iter(self.rows.values())))

    @cached_property
    def conditions(self) -> list[Line]:
        """A line of each condition, without absent modalities."""
        first = next(iter(next(iter(self.rows.values())).values()))
        return [line for line in first.values() if line["kind"] != ABSENT]

    @cached_property
    def seen(self) -> set[str]:
        """Conditions with a kind of noise that training or inference of any row in these runs used."""
        used = {(line["modality"], line["kind"]) for line in self.lines if line["seen"] == "1"}
        single = {(m, kind) for modality, kind in used for m in modality.split("+")}
        return {
            line["condition"]
            for line in self.conditions
            if any((m, line["kind"]) in single for m in line["modality"].split("+"))
        }

    def inferences(self, row: str) -> str:
        """Return the inference variant of a row, ``plain`` if it has none."""
        return next(iter(next(iter(self.rows[row].values())).values()))["inference"]

    def plain(self) -> list[str]:
        """Return the rows without an inference variant."""
        return [row for row in self.rows if self.inferences(row) == "plain"]

    def mean(self, row: str, conditions: Iterable[str], measure: str = "accuracy") -> Values:
        """Return by unit the mean of a measure over conditions."""
        names = list(conditions)
        table = [[float(self.rows[row][unit][name][measure]) for name in names] for unit in self.units]
        return np.array(table).mean(1)

    def figures(self, row: str) -> dict[str, Values]:
        """Return by unit: accuracy and ECE in %, coverage in %, sizes in classes, processor time in seconds."""
        names = [line["condition"] for line in self.conditions]
        noisy = [name for name in names if name != "clean"]
        held = [name for name in noisy if name not in self.seen]
        used = [name for name in noisy if name in self.seen]
        worst = np.min([self.mean(row, [name]) for name in names], 0)
        figures = {
            "clean": 100 * self.mean(row, ["clean"]),
            "held out": 100 * self.mean(row, held or noisy),
            "seen": 100 * self.mean(row, used) if used else np.full(len(self.units), np.nan),
            "all": 100 * self.mean(row, names),
            "worst": 100 * worst,
            "ECE": 100 * self.mean(row, ["clean"], "ece"),
            "coverage": 100 * self.mean(row, ["clean"], "coverage"),
            "size": self.mean(row, ["clean"], "size"),
            "coverage, noisy": 100 * self.mean(row, noisy, "coverage"),
            "size, noisy": self.mean(row, noisy, "size"),
        }
        return figures | {"CPU, s": self.mean(row, ["clean"], "cpu_seconds")}

    def areas(self, row: str) -> dict[str, float]:
        """Return by modality and kind the mean area under the severity curve in %, of kinds with several levels."""
        levels: dict[str, dict[int, str]] = {}
        for line in self.conditions:
            if line["level"] and "+" not in line["modality"]:
                levels.setdefault(f"{line['modality']} {line['kind']}", {})[int(float(line["level"]))] = line[
                    "condition"
                ]
        return {
            kind: 100 * area({0: self._mean(row, "clean")} | {level: self._mean(row, n) for level, n in names.items()})
            for kind, names in levels.items()
            if len(names) > 1
        }

    def _mean(self, row: str, condition: str) -> float:
        return float(self.mean(row, [condition]).mean())

    def difference(self, row: str, other: str, figure: str) -> Difference:
        """Return the paired difference of a figure between two rows."""
        first, second = self.figures(row)[figure], self.figures(other)[figure]
        return paired_difference(first, second, divisions=self.divisions, overlap=self.overlap)

    @property
    def divisions(self) -> list[int]:
        """Division of each unit."""
        return [division for division, _ in self.units]

    @property
    def overlap(self) -> float:
        """Number of test rows over that of all other rows, or 0 if all divisions share the test rows."""
        return float(self.lines[0]["overlap"])

    def against(self, reference: str, rows: Iterable[str], figure: str) -> dict[str, tuple[Difference, float]]:
        """Return by row the difference to a reference, and its p-value after Holm's correction."""
        apart = {row: self.difference(row, reference, figure) for row in rows if row != reference}
        adjusted = holm([difference.p_value for difference in apart.values()])
        return {row: (difference, float(p)) for (row, difference), p in zip(apart.items(), adjusted, strict=True)}

    def smallest(self, reference: str, rows: Iterable[str], figure: str) -> tuple[float, float]:
        """Return the smallest true differences that the runs detect: in one comparison, and after the correction."""
        first = self.figures(reference)[figure]
        others = [row for row in rows if row != reference]
        apart = [unit_differences(self.figures(row)[figure], first, self.divisions) for row in others]
        if not apart or len(apart[0]) < 2:
            return float("nan"), float("nan")
        deviation = float(np.median([values.std(ddof=1) for values in apart]))
        one, many = (
            smallest_difference(deviation, len(apart[0]), overlap=self.overlap, level=level)
            for level in (0.05, 0.05 / len(apart))
        )
        return one, many
