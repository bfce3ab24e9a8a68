"""Suites of a benchmark: the figures of a run by column, as in the tables of the field.

Suites are views of the same runs: training and measurements do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.evaluation import curves, means_by_use
from cpsc_train.evaluation.shapley import shapley
from cpsc_train.models import FUSED

Run = Mapping[str, Any]
"""The content of ``results.json``."""


@dataclass(frozen=True)
class Suite:
    """Figures of a run."""

    title: str
    """Title of the table."""
    primary: str
    """Column by which methods are compared."""
    figures: Callable[[Run], dict[str, float]]
    """Function from a run to its figures in %, by column."""


def contributions(run: Run) -> dict[str, float]:
    """Return by modality the Shapley value of the fused clean test accuracy in %; none if subsets were not measured.

    The accuracy of no modality at all is taken as zero, so that the values add up to the accuracy of all.
    """
    modalities, test = list(run["data"]["modalities"]), run["test"]

    def accuracy(kept: frozenset[str]) -> float:
        absent = [m for m in modalities if m not in kept]
        name = f"without-{'+'.join(absent)}" if absent else "clean"
        return 100 * float(test[name]["accuracy"][FUSED])

    try:
        return shapley(modalities, accuracy)
    except KeyError:
        return {}


def _imbalance(run: Run) -> dict[str, float]:
    clean = run["test"]["clean"]
    modalities = run["data"]["modalities"]
    figures = {"accuracy": clean["accuracy"][FUSED]}
    figures |= {f"accuracy, {m}": clean["accuracy"][m] for m in modalities}
    figures |= {"average": clean["average_accuracy"], "macro F1": clean["macro_f1"][FUSED]}
    figures |= {f"without {m}": run["test"][f"without-{m}"]["accuracy"][FUSED] for m in modalities if _missing(run, m)}
    shares = {f"contribution, {m}": value / 100 for m, value in contributions(run).items()}
    return _percent(figures | shares | _calibration(run))


def _noise(run: Run) -> dict[str, float]:
    conditions = {
        name: part["accuracy"][FUSED] for name, part in run["test"].items() if not name.startswith("without-")
    }
    values = list(conditions.values())
    figures = conditions | {"mean": float(np.mean(values)), "worst": min(values)}
    return _percent(figures | _areas(run) | _by_use(conditions, run) | _calibration(run))


def _areas(run: Run) -> dict[str, float]:
    """Return the area under the severity curve of each kind measured at several levels, and their mean."""
    areas = {f"area, {kind}": curve["area"][FUSED] for kind, curve in curves(run).items()}
    return areas | ({"area": float(np.mean(list(areas.values())))} if areas else {})


def _by_use(conditions: dict[str, float], run: Run) -> dict[str, float]:
    """Return the mean over kinds of noise that training used, and over others, if it used any."""
    means = means_by_use(conditions, run)
    return {f"mean, {use}": mean for use, mean in means.items()} if "seen" in means else {}


def _missing(run: Run, modality: str) -> bool:
    return f"without-{modality}" in run["test"]


def _calibration(run: Run) -> dict[str, float]:
    """Return calibration error and coverage of the fused decision on clean test rows."""
    clean = run["test"]["clean"]
    return {"ECE": clean["expected_calibration_error"][FUSED], "coverage": clean["coverage"][FUSED]["coverage"]}


def _percent(shares: dict[str, float]) -> dict[str, float]:
    return {name: 100 * float(share) for name, share in shares.items()}


SUITES = {
    "imbalance": Suite("Imbalanced modalities: clean test rows", "accuracy", _imbalance),
    "noise": Suite("Noisy modalities: accuracy of the fused decision on test rows", "mean", _noise),
}
"""By name."""


def chosen_suites(text: str) -> list[str]:
    """Return the names of suites in a text such as ``imbalance,noise``. Raises UserError for an unknown one."""
    names = text.split(",")
    for name in names:
        if name not in SUITES:
            raise UserError(unknown("suite", name, list(SUITES)))
    return names


REPORTED: dict[tuple[str, str], dict[str, dict[str, float]]] = {
    ("kinetics-sounds", "imbalance"): {"cpsc": {"accuracy": 76.08}, "iprm": {"accuracy": 74.82}},
    ("crema-d", "imbalance"): {
        "cpsc": {"accuracy": 87.83, "average": 78.65},
        "lfm": {"accuracy": 86.02, "average": 75.94},
    },
    ("ave", "imbalance"): {
        "cpsc": {"accuracy": 77.66, "average": 63.41},
        "mmpareto": {"accuracy": 75.81, "average": 61.85},
    },
    ("mvsa-single", "noise"): {"cpsc": {"clean": 80.07, "GS@5": 74.12, "GS@10": 63.32, "SP@5": 73.95, "SP@10": 61.27}},
    ("nyu-depth-v2", "noise"): {"cpsc": {"clean": 73.12, "GS@5": 64.15, "GS@10": 57.32, "SP@5": 61.22, "SP@10": 47.40}},
    ("sun-rgbd", "noise"): {"cpsc": {"clean": 62.12, "GS@5": 54.11, "GS@10": 49.10, "SP@5": 53.37, "SP@10": 41.28}},
}
"""By data set and suite, what arXiv:2605.03820 reports in %, by method and column. It is from another harness, and does
not compare with figures of this one."""


def reported(data: str, suite: str, method: str) -> str:
    """Return the figures of a method in the source as text; empty if there are none."""
    figures = REPORTED.get((data, suite), {}).get(method, {})
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
