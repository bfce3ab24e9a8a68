"""A few ratios that must not grow, measured now and set beside those of earlier commits.

    python benchmarks/history.py            measure, append to benchmarks/history.csv, compare with the lines before
    python benchmarks/history.py --dry      measure and compare only

Each is a time over that of a plain reference in the same rounds, so that machines and minutes cancel for the most part.
A ratio more than a fifth above the median of the last five is marked. A line of the file: date, commit, name, ratio.
"""

import argparse
import bisect
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "selfcalibration"))

from run import Case

from conformal_core import LAC, OnlineClassifier, SplitClassifier
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.methods.joint import JointUnimodalConfig
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

FILE = Path(__file__).parent / "history.csv"
GROWN = 1.2


def split() -> tuple[Callable[[], object], Callable[[], object]]:
    """Calibrate on 10,000 rows and predict 20,000 × 100, beside the same in plain numpy."""
    rng = np.random.default_rng(0)
    cal, test = (rng.dirichlet(np.ones(100), n).astype(np.float32) for n in (10_000, 20_000))
    labels = rng.integers(0, 100, 10_000)

    def ours() -> object:
        predictor = SplitClassifier(LAC(), alpha=0.1)
        predictor.calibrate(cal, labels, check=False)
        return predictor.predict(test, check=False)

    def plain() -> object:
        scores = 1 - cal[np.arange(len(cal)), labels]
        k = int(np.ceil((len(scores) + 1) * 0.9))
        return (1 - test) <= np.partition(scores, k - 1)[k - 1]

    return ours, plain


def stream() -> tuple[Callable[[], object], Callable[[], object]]:
    """1,000 steps of a stream with 2,000 scores in memory, beside a sorted list."""
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(10), 3000), rng.integers(0, 10, 3000)

    def ours() -> None:
        online = OnlineClassifier(LAC(), alpha=0.1)
        online.calibrate(probs[:2000], labels[:2000], check=False)
        for row, label in zip(probs[2000:], labels[2000:].tolist(), strict=True):
            online.predict(row, check=False)
            online.update(row, label, check=False)

    def plain() -> None:
        scores = sorted(1 - probs[np.arange(2000), labels[:2000]])
        for row, label in zip(probs[2000:], labels[2000:].tolist(), strict=True):
            k = int(np.ceil((len(scores) + 1) * 0.9))
            _ = (1 - row) <= scores[k - 1]
            bisect.insort(scores, 1 - row[label])

    return ours, plain


def step() -> tuple[Callable[[], object], Callable[[], object]]:
    """RSC and GSC with gradients, beside their matrix products alone."""
    torch.set_num_threads(1)
    case = Case(31)

    def ours() -> None:
        case.clear()
        case.loss().backward()

    def plain() -> None:
        case.clear()
        case.floor()

    return ours, plain


def epoch() -> tuple[Callable[[], object], Callable[[], object]]:
    """Train an epoch of CPSC on the embedded digits, beside joint and unimodal training."""
    trainers = []
    for method in (CPSCConfig(warmup=1), JointUnimodalConfig()):
        made = Trainer(Setup.build(recipe("handwritten", method=method)))
        for _ in range(2):
            made.train_epoch(Observer())
        trainers.append(made)
    ours, plain = ((lambda made=made: made.train_epoch(Observer())) for made in trainers)
    return ours, plain


TRACKED = {
    "core: split, x numpy": (split, 9),
    "core: stream, x sorted list": (stream, 5),
    "rsc + gsc: step, x matrix products": (step, 40),
    "train: epoch, x joint-unimodal": (epoch, 7),
}


def ratio(make: Callable[[], tuple[Callable[[], object], Callable[[], object]]], rounds: int) -> float:
    pair = make()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for run, seen in zip(pair, times, strict=True):
            began = time.perf_counter()
            run()
            seen.append(time.perf_counter() - began)
    ours, plain = (statistics.median(seen[1:]) for seen in times)
    return ours / plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="do not append to the file")
    given = parser.parse_args()
    lines = list(csv.DictReader(FILE.open(encoding="utf-8", newline=""))) if FILE.exists() else []
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False)
    now = {"date": datetime.now(tz=UTC).date().isoformat(), "commit": commit.stdout.strip() or "unknown"}
    for name, (make, rounds) in TRACKED.items():
        found = ratio(make, rounds)
        before = [float(line["ratio"]) for line in lines if line["name"] == name][-5:]
        usual = statistics.median(before) if before else found
        mark = "  <- grown" if found > GROWN * usual else ""
        print(f"{name}: {found:.2f} (median of the last {len(before)}: {usual:.2f}){mark}", flush=True)
        lines.append(now | {"name": name, "ratio": f"{found:.3f}"})
    if not given.dry:
        with FILE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["date", "commit", "name", "ratio"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
