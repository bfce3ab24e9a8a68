"""One step of a stream, written the usual way, as a ratio to the same step on a sorted list with bisect.

    python benchmarks/core/steps.py [--only WORD] [--json FILE]

Every case runs `predict(p[i]); update(p[i], y[i])` beside its floor, in turn, in one process. A figure is the fastest
of several rounds, in CPU time, so that other processes do not count. A case whose ratio exceeds its limit is marked,
and the exit status is 1.
"""

import argparse
import importlib.util
import json
import sys
import time
import warnings
from bisect import insort
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conformal_core import (
    APS,
    LAC,
    RAPS,
    SAOCP,
    SAPS,
    AbsoluteResidual,
    DtACI,
    Margin,
    OnlineClassifier,
    OnlineRegressor,
)

ALPHA, STEPS, MEMORY = 0.1, 100, 1000
Step = Callable[[int], object]


class Case(NamedTuple):
    """A step of ours and its floor, the classes of a row, and the largest ratio; a step takes `rows` rows."""

    make: Callable[[int, int], Step]
    floor: Callable[[int, int], Step]
    limit: float
    classes: int = 100
    rows: int = 1


def data(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), size=STEPS)
    return probs, rng.integers(0, classes, STEPS)


def past(size: int) -> np.ndarray:
    return np.random.default_rng(1).random(size)


def bisecting(classes: int, size: int) -> Step:
    """Return the floor of classification: LAC by hand."""
    (probs, labels), scores = data(classes), sorted(past(size).tolist())
    rows, own = list(probs), labels.tolist()

    def step(i: int) -> object:
        row = rows[i]
        sets = 1.0 - row <= scores[-(-(len(scores) + 1) * 9 // 10) - 1]
        insort(scores, 1.0 - float(row[own[i]]))
        return sets

    return step


def bisecting_residuals(classes: int, size: int) -> Step:
    """Return the floor of regression: absolute residuals by hand."""
    (probs, _), scores = data(2), sorted(past(size).tolist())
    predictions, targets = probs[:, 0].tolist(), probs[:, 1].tolist()

    def step(i: int) -> object:
        qhat = scores[-(-(len(scores) + 1) * 9 // 10) - 1]
        interval = predictions[i] - qhat, predictions[i] + qhat
        insort(scores, abs(targets[i] - predictions[i]))
        return interval

    return step


def plain_aps(classes: int, size: int) -> Step:
    """APS in plain numpy, without ties: sort, sum, compare; the score of the label; insort."""
    (probs, labels), scores = data(classes), sorted(past(size).tolist())

    def step(i: int) -> object:
        row = probs[i]
        order = np.argsort(-row)
        mass = np.empty_like(row)
        mass[order] = np.cumsum(row[order])
        sets = mass <= scores[-(-(len(scores) + 1) * 9 // 10) - 1]
        order = np.argsort(-row)
        mass = np.empty_like(row)
        mass[order] = np.cumsum(row[order])
        insort(scores, float(mass[labels[i]]))
        return sets

    return step


def searching(classes: int, size: int) -> Step:
    """p-values in plain numpy: search all labels in the sorted scores, then insert the score of the label."""
    (probs, labels), scores = data(classes), np.sort(past(size))

    def step(i: int) -> object:
        nonlocal scores
        row = 1.0 - probs[i]
        p = (len(scores) - scores.searchsorted(row) + 1.0) / (len(scores) + 1.0)
        own = row[labels[i]]
        scores = np.insert(scores, scores.searchsorted(own), own)
        return p

    return step


def stream(
    score: Any, *, rows: Callable[[np.ndarray], Any] = list, labels: Callable[[np.ndarray], Any] = list, **options: Any
) -> Callable[[int, int], Step]:
    """Step of an online classifier; `rows` and `labels` bring arrays into the form that a loop indexes."""

    def make(classes: int, size: int) -> Step:
        probs, own = data(classes)
        level = options["level"]() if "level" in options else None
        predictor = OnlineClassifier(score, level=level, alpha=None if level else ALPHA)
        predictor.calibrate(probs[:1], own[:1])
        predictor.memory.extend(past(size))
        if hasattr(level, "take_units"):
            level.calibrate(past(50).tolist())
        p, y = rows(probs), labels(own)

        def step(i: int) -> object:
            sets = predictor.predict(p[i])
            predictor.update(p[i], y[i])
            return sets

        return step

    return make


def p_values(classes: int, size: int) -> Step:
    probs, labels = data(classes)
    predictor = OnlineClassifier(LAC(), alpha=ALPHA)
    predictor.memory.extend(past(size))

    def step(i: int) -> object:
        p = predictor.p_values(probs[i])
        predictor.update(probs[i], labels[i])
        return p

    return step


def batches(classes: int, size: int) -> Step:
    probs, labels = data(classes)
    predictor = OnlineClassifier(LAC(), alpha=ALPHA)
    predictor.memory.extend(past(size))

    def step(i: int) -> object:
        sets = predictor.predict(probs)
        predictor.update(probs, labels)
        return sets

    return step


def regression(rows: Callable[[np.ndarray], Any]) -> Callable[[int, int], Step]:
    def make(classes: int, size: int) -> Step:
        probs, _ = data(2)
        predictor = OnlineRegressor(AbsoluteResidual(), alpha=ALPHA)
        predictor.memory.extend(past(size))
        p, y = rows(probs[:, 0]), rows(probs[:, 1])

        def step(i: int) -> object:
            interval = predictor.predict(p[i])
            predictor.update(p[i], y[i])
            return interval

        return step

    return make


def slices(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + 1] for i in range(len(array))]


def cases() -> dict[str, Case]:
    found = {
        "LAC, label int": Case(stream(LAC(), labels=np.ndarray.tolist), bisecting, 6),
        "LAC, label y[i]": Case(stream(LAC()), bisecting, 6),
        "LAC, label 0-d array": Case(stream(LAC(), labels=lambda y: [np.asarray(one) for one in y]), bisecting, 6),
        "LAC, float32 rows": Case(stream(LAC(), rows=lambda p: list(p.astype(np.float32))), bisecting, 6),
        "LAC, slices (1, K) and (1,)": Case(stream(LAC(), rows=slices, labels=slices), bisecting, 6),
        "SAPS": Case(stream(SAPS()), bisecting, 10),
        "Margin": Case(stream(Margin()), bisecting, 10),
        "APS": Case(stream(APS()), bisecting, 25),
        "APS, of plain numpy": Case(stream(APS()), plain_aps, 3),
        "APS, randomized": Case(stream(APS(randomized=True)), bisecting, 25),
        "RAPS": Case(stream(RAPS()), bisecting, 25),
        "RAPS, K = 1,000": Case(stream(RAPS()), bisecting, 25, classes=1000),
        "DtACI": Case(stream(LAC(), level=lambda: DtACI(alpha=ALPHA)), bisecting, 25),
        "SAOCP": Case(stream(LAC(), level=lambda: SAOCP(alpha=ALPHA)), bisecting, 25),
        "p_values and update, K = 1,000": Case(p_values, bisecting, 10, classes=1000),
        "p_values and update, of plain numpy": Case(p_values, searching, 1.5, classes=1000),
        "regression, rows p[i]": Case(regression(list), bisecting_residuals, 8),
        "regression, float": Case(regression(np.ndarray.tolist), bisecting_residuals, 8),
        "regression, slices (1,)": Case(regression(slices), bisecting_residuals, 8),
        "batch of 100, a row": Case(batches, bisecting, 1.5, rows=100),
    }
    if importlib.util.find_spec("torch"):
        from torch import from_numpy  # noqa: PLC0415

        found["torch rows and labels"] = Case(stream(LAC(), rows=from_numpy, labels=from_numpy), bisecting, 25)
    return found


def fastest(steps: list[Step], rows: list[int], rounds: int) -> list[float]:
    """Fastest seconds a row of each step, over rounds in which they take turns."""
    best = [float("inf")] * len(steps)
    for _ in range(rounds):
        for place, (step, taken) in enumerate(zip(steps, rows, strict=True)):
            count = STEPS // taken
            start = time.process_time()
            for i in range(count):
                step(i)
            best[place] = min(best[place], (time.process_time() - start) / STEPS)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--long", type=int, default=1_000_000, help="scores in the long memory; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    missed, ratios = [], {}
    print("| step | µs | × floor | limit | × after 10⁶ scores | |\n|---|---|---|---|---|---|")
    for name, case in cases().items():
        if arguments.only not in name:
            continue
        sizes = [MEMORY, *([arguments.long] if arguments.long else [])]
        steps = [case.floor(case.classes, MEMORY), *(case.make(case.classes, size) for size in sizes)]
        floor, ours, *long = fastest(steps, [1] + [case.rows] * len(sizes), arguments.rounds)
        ratio, growth = ours / floor, long[0] / ours if long else 1.0
        ratios[name] = ratio
        verdict = "missed" if ratio > case.limit else "not flat" if growth > 2 else ""
        missed += [name] if verdict else []
        print(f"| {name} | {1e6 * ours:.1f} | {ratio:.1f} | {case.limit:g} | {growth:.2f} | {verdict} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(ratios), encoding="utf-8")
    print(f"\nmissed: {', '.join(missed) or 'none'}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
