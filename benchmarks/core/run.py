"""conformal-core against plain numpy and other libraries: batches, p-values, reliability, streams, import.

    python benchmarks/core/run.py [--puncc PYTHON]

Times are medians of rounds in which every variant runs once, in turn, in one process: compare ratios. The other
libraries are those of the requirements files; those that are not installed are reported. puncc needs numpy < 2, so it
runs in an environment of its own and is compared by its ratio to plain numpy there.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians

from conformal_core import (
    ACI,
    APS,
    LAC,
    DtACI,
    Exponential,
    History,
    OnlineClassifier,
    Reservoir,
    SplitClassifier,
    Window,
    p_values,
    rank_reliability,
)

ALPHA = 0.1
Jobs = dict[str, Callable[[], object]]


def data(rows: int, seed: int, classes: int = 100) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), size=rows).astype(np.float32)
    return probs, rng.integers(0, classes, rows)


def plain(calibration: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    scores = 1 - calibration[np.arange(len(labels)), labels]
    return (1 - test) <= np.partition(scores, 9000)[9000]


def batch(score: str, rounds: int) -> None:
    calibration, labels = data(10_000, 0)
    test, _ = data(100_000, 1)
    ours = {"LAC": LAC, "APS": APS}[score]()

    def split(check: bool | None, convert: Callable[[np.ndarray], object] = lambda x: x) -> Callable[[], object]:
        arrays = [convert(x) for x in (calibration, labels, test)]

        def job() -> object:
            predictor = SplitClassifier(ours, alpha=ALPHA)
            predictor.calibrate(*arrays[:2], check=check)
            return predictor.predict(arrays[2], check=check)

        return job

    reference = "plain numpy" if score == "LAC" else "np.sort of the test matrix"
    jobs: Jobs = {
        reference: (lambda: plain(calibration, labels, test)) if score == "LAC" else (lambda: np.sort(test, axis=-1)),
        "conformal-core, unchecked": split(False),
        "conformal-core": split(None),
    }
    try:
        import torch  # noqa: PLC0415

        jobs["conformal-core, torch tensors, unchecked"] = split(False, torch.from_numpy)
        jobs["conformal-core, torch tensors"] = split(None, torch.from_numpy)
    except ImportError:
        print("\ntorch: not installed")
    small = {}
    for name, make in peers.BATCH.items():
        try:
            job = make(score, ALPHA)
            job(calibration[:200], labels[:200], test[:200])
        except Exception as error:  # a peer may raise any error, which is reported
            print(f"\n{name}, {score}: not run ({type(error).__name__}: {error})")
            continue
        if name == "crepes":  # compares all pairs: 1,000 rows stand for a hundred times as many
            small["crepes, 100 × 1,000 rows"] = lambda job=job: job(calibration, labels, test[:1000])
        else:
            jobs[name] = lambda job=job: job(calibration, labels, test)
    seconds = medians(jobs, rounds)
    seconds |= {name: 100 * s for name, s in medians(small, 1).items()} if small else {}
    table(f"{score}: calibrate on 10,000, predict 100,000 × 100 float32", seconds, reference)


def puncc(interpreter: str) -> None:
    done = subprocess.run(
        [interpreter, str(Path(__file__).with_name("puncc_side.py"))], capture_output=True, text=True, check=True
    )
    seconds = json.loads(done.stdout.splitlines()[-1])
    table(f"puncc {seconds.pop('version')} in its own environment, the same data", seconds, "plain numpy")


def memory_of_p_values() -> None:
    rng = np.random.default_rng(0)
    calibration, test = rng.random(10_000, dtype="f4"), rng.random((100_000, 100), dtype="f4")
    began = time.perf_counter()
    p_values(calibration, test)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    p_values(calibration, test)
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"\np-values of 100,000 × 100 scores, N = 10,000: {seconds:.2f} s, {megabytes:.0f} MB peak memory")


def reliability(rounds: int) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((64, 10, 31)), rng.integers(0, 31, (64, 10))

    def loop(rows: Any, own: Any) -> list[float]:
        out = []
        for block, labels_of_block in zip(rows, own, strict=True):
            for row, label in zip(block, labels_of_block, strict=True):
                size, rank = (row <= 0.8).sum(), (row < row[label]).sum()
                out.append(float(1 - rank / size) if row[label] <= 0.8 else 0.0)
        return out

    jobs: Jobs = {
        "conformal-core": lambda: rank_reliability(scores, labels, 0.8),
        "conformal-core, unchecked": lambda: rank_reliability(scores, labels, 0.8, check=False),
        "a numpy loop over samples": lambda: loop(scores, labels),
    }
    if importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        tensors = torch.from_numpy(scores), torch.from_numpy(labels)
        jobs["conformal-core, torch tensors, unchecked"] = lambda: rank_reliability(*tensors, 0.8, check=False)
        jobs["a torch loop over samples"] = lambda: loop(*tensors)
    table("Reliability of (64, 10, 31)", medians(jobs, rounds), "conformal-core, unchecked")


def stream() -> None:
    print("\n### Stream: predict a set, see the label, update; 100 classes, LAC, µs per step\n")
    print("| | after 2,000 | after 1,000,000 | ratio |\n|---|---|---|---|")
    probs, labels = data(2000, 2)
    rows, own = list(probs.astype(np.float64)), labels.tolist()
    past = np.random.default_rng(3).random(1_000_000)

    def steps(predictor: OnlineClassifier, check: bool | None) -> float:
        began = time.perf_counter()
        for row, label in zip(rows, own, strict=True):
            predictor.predict(row, check=check)
            predictor.update(row, label, check=check)
        return (time.perf_counter() - began) / len(rows) * 1e6

    fixed = {"alpha": ALPHA}
    cases: dict[str, Callable[[], dict]] = {
        "all history": lambda: fixed | {"memory": History()},
        "window of 1,000": lambda: fixed | {"memory": Window(1000)},
        "reservoir of 1,000": lambda: fixed | {"memory": Reservoir(1000)},
        "exponential, .999": lambda: fixed | {"memory": Exponential(0.999)},
        "all history, ACI": lambda: {"level": ACI(alpha=ALPHA)},
        "window of 1,000, DtACI": lambda: {"memory": Window(1000), "level": DtACI(alpha=ALPHA)},
    }
    first = {}
    for name, make in cases.items():
        for check in (None, False) if name == "all history" else (None,):
            label = name + (", unchecked" if check is False else "")
            micros = []
            for size in (2000, 1_000_000):
                options = make()
                predictor = OnlineClassifier(LAC(), **options)
                predictor.memory.extend(past[:size])
                steps(predictor, check)
                micros.append(min(steps(predictor, check) for _ in range(5)))
            first[label] = micros[0]
            print(f"| {label} | {micros[0]:.1f} | {micros[1]:.1f} | {micros[1] / micros[0]:.2f} |")
    plain_steps, scores, k = {}, past[:2000].copy(), 1800
    began = time.perf_counter()
    for row, label in zip(rows[:500], own, strict=False):
        _ = (1 - row) <= np.partition(scores, k)[k]
        scores = np.append(scores, 1 - row[label])
    plain_steps["numpy partition of all scores"] = (time.perf_counter() - began) / 500 * 1e6
    try:
        began = time.perf_counter()
        peers.crepes_stream(probs.astype(np.float64), labels, ALPHA)
        plain_steps["crepes, the whole stream of 2,000 in one call"] = (time.perf_counter() - began) / 2000 * 1e6
    except Exception as error:
        print(f"crepes: not run ({type(error).__name__}: {error})")
    for name, value in plain_steps.items():
        print(f"| {name} | {value:.1f} | | {value / first['all history']:.1f} × all history |")


def importing() -> None:
    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""})
        return time.perf_counter() - began

    both = [(once("import numpy"), once("import numpy, conformal_core")) for _ in range(12)][1:]
    added = statistics.median(b for _, b in both) - statistics.median(a for a, _ in both)
    print(f"\nimporting conformal_core adds {1000 * added:.0f} ms to importing numpy ({1000 * both[-1][0]:.0f} ms)")


def table(title: str, seconds: dict[str, float], reference: str) -> None:
    print(f"\n### {title}\n\n| | ms | × {reference} |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.2f} | {value / seconds[reference]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each batch job")
    parser.add_argument("--puncc", help="interpreter of an environment that has puncc")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    installed = {}
    for name in ("numpy", "torch", "torchcp", "mapie", "crepes"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {installed}")
    batch("LAC", arguments.rounds)
    batch("APS", arguments.rounds)
    if arguments.puncc:
        puncc(arguments.puncc)
    memory_of_p_values()
    reliability(arguments.rounds)
    stream()
    importing()


if __name__ == "__main__":
    main()
