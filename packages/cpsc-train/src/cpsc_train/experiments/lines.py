"""Runs in long format: a line for each run, inference variant and condition, the source of all tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cpsc_train.evaluation.curves import held_out, kinds
from cpsc_train.experiments.grid import Results
from cpsc_train.models import FUSED

OWN = "plain"
"""The inference of the method itself."""
COLUMNS = (
    *("data", "row", "method", "inference", "division", "overlap", "seed", "condition", "modality", "kind", "level"),
    *("seen", "accuracy", "macro_f1", "ece", "coverage", "size", "cpu_seconds"),
)
"""Columns of `lines`. ``row`` is the name of the variant, with the inference; ``overlap`` that of a grid; ``kind`` is
``clean``, ``absent`` or that of a corruption; ``seen`` is 1 if training or the inference was fitted on that kind;
``size`` is the mean size of prediction sets, and ``cpu_seconds`` the cost of training and evaluation."""


def expanded(results: Results) -> Results:
    """Return the runs with an additional row for each inference variant, named ``VARIANT + INFERENCE``.

    Examples
    --------
    >>> run = {"test": 1, "inference": {"trust": {"test": 2, "validation": 3, "seen": []}}}
    >>> {name: runs[0]["test"] for name, runs in expanded({"joint": [run]}).items()}
    {'joint': 1, 'joint + trust': 2}
    """
    rows: Results = {}
    for name, runs in results.items():
        rows[name] = runs
        for inference in runs[0].get("inference", {}):
            rows[f"{name} + {inference}"] = [_inferred(run, inference) for run in runs]
    return rows


def _inferred(run: Mapping[str, Any], inference: str) -> dict[str, Any]:
    figures = run["inference"][inference]
    training = run.get("seen", {}).get("training", [])
    seen = dict.fromkeys([*training, *figures.get("seen", [])])
    result = {**run, **figures, "seen": {"training": list(seen)}, "variant": inference}
    if isinstance(figures["test"], Mapping):
        parts = {part: figures[part]["clean"]["coverage"] for part in ("validation", "test")}
        result["coverage"] = run["coverage"] | parts
    return result


def lines(results: Results) -> Iterator[list[object]]:
    """Yield the values of `COLUMNS` for every run of expanded results, on test rows, after the names of the columns."""
    yield list(COLUMNS)
    for name, runs in results.items():
        for run in runs:
            corruptions, unseen = run.get("conditions", {}), held_out(run)
            for condition, figures in run["test"].items():
                modality, kind, level = _described(condition, corruptions.get(condition, []))
                yield [
                    run["data"]["name"],
                    name,
                    run["method"],
                    run.get("variant", OWN),
                    run.get("division", 0),
                    f"{run.get('overlap', 0.0):.4g}",
                    run["seed"],
                    condition,
                    modality,
                    kind,
                    level,
                    int(not unseen.get(condition, True)),
                    *(f"{value:.5g}" for value in _figures(figures)),
                    f"{_cpu(run):.3g}",
                ]


def _described(condition: str, parts: list[dict[str, Any]]) -> tuple[str, str, object]:
    """Return the modalities, the kinds and the level of a condition."""
    if condition.startswith("without-"):
        return condition.removeprefix("without-"), "absent", ""
    if not parts:
        return "", condition, ""
    names = [kind.partition(":")[2] for kind in kinds(parts)]
    levels = {part["level"] if part["level"] is not None else part["severity"] for part in parts}
    level = levels.pop() if len(levels) == 1 else ""
    return "+".join(part["modality"] for part in parts), "+".join(dict.fromkeys(names)), level


def _figures(figures: Mapping[str, Any]) -> list[float]:
    names = ("accuracy", "macro_f1", "expected_calibration_error")
    sets = figures["coverage"][FUSED]
    return [*(float(figures[name][FUSED]) for name in names), float(sets["coverage"]), float(sets["mean_size"])]


def _cpu(run: Mapping[str, Any]) -> float:
    return float(run["cpu_seconds"])
