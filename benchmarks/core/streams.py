"""Many streams in one object, beside a loop over one predictor a stream.

    python benchmarks/core/streams.py [--streams 10000] [--steps 1000] [--loop 20]

Both take the same rows in one process, the loop those of the first streams only; times are CPU times, a stream and
step. The thresholds of both must be equal at the end.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from conformal_core import (
    ACI,
    LAC,
    AbsoluteResidual,
    Constant,
    Level,
    OnlineClassifier,
    OnlineRegressor,
    Streams,
    Window,
)

CLASSES = 10


def cases() -> dict[str, tuple[bool, int, Callable[[], Level]]]:
    """Whether rows are probabilities, the size of the window, and the level."""
    return {
        "residuals, window 500, ACI γ .005": (False, 500, lambda: ACI(alpha=0.1, gamma=0.005)),
        "residuals, window 500, ACI γ .02": (False, 500, lambda: ACI(alpha=0.1, gamma=0.02)),
        "residuals, window 500, constant": (False, 500, lambda: Constant(alpha=0.1)),
        "residuals, window 100, ACI γ .005": (False, 100, lambda: ACI(alpha=0.1, gamma=0.005)),
        "residuals, window 1,000, ACI γ .005": (False, 1000, lambda: ACI(alpha=0.1, gamma=0.005)),
        f"LAC, {CLASSES} classes, window 500, ACI γ .005": (True, 500, lambda: ACI(alpha=0.1, gamma=0.005)),
    }


def steps(rng: np.random.Generator, streams: int, probabilities: bool) -> tuple[Any, Any]:
    """Return rows and labels of one step."""
    if probabilities:
        odds = rng.standard_exponential((streams, CLASSES))
        return odds / odds.sum(1, keepdims=True), rng.integers(0, CLASSES, streams)
    return rng.standard_normal(streams), rng.standard_normal(streams)


def compare(probabilities: bool, size: int, level: Callable[[], Level], arguments: argparse.Namespace) -> list[float]:
    """Return seconds a stream and step in one object, and in a loop."""
    kind, score = (OnlineClassifier, LAC()) if probabilities else (OnlineRegressor, AbsoluteResidual())
    rng, few = np.random.default_rng(0), range(arguments.loop)
    many = Streams(kind(score, memory=Window(size), level=level()), arguments.streams)
    each = [kind(score, memory=Window(size), level=level()) for _ in few]
    past = [steps(rng, arguments.streams, probabilities) for _ in range(size)]
    rows, labels = (np.stack(part) for part in zip(*past, strict=True))
    many.calibrate(rows, labels)
    for i in few:
        each[i].calibrate(rows[:, i], labels[:, i])
    seconds = [0.0, 0.0]
    for _ in range(arguments.steps):
        row, label = steps(rng, arguments.streams, probabilities)
        first, own = list(row[: len(each)]), label[: len(each)].tolist()
        start = time.process_time()
        many.predict(row)
        many.update(row, label)
        middle = time.process_time()
        for i in few:
            each[i].predict(first[i])
            each[i].update(first[i], own[i])
        seconds[0] += middle - start
        seconds[1] += time.process_time() - middle
    if many.qhat[: len(each)].tolist() != [float(predictor.qhat) for predictor in each]:
        raise SystemExit("the thresholds differ")
    return [seconds[0] / arguments.steps / arguments.streams, seconds[1] / arguments.steps / arguments.loop]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("streams", 10_000), ("steps", 1000), ("loop", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    arguments = parser.parse_args()
    print("| streams of | `Streams`, µs | loop, µs | ratio |\n|---|---|---|---|")
    for name, case in cases().items():
        if arguments.only in name:
            ours, loop = compare(*case, arguments)
            print(f"| {name} | {1e6 * ours:.2f} | {1e6 * loop:.1f} | {loop / ours:.0f} |", flush=True)


if __name__ == "__main__":
    main()
