"""A sensor that fades: false alarms on exchangeable streams, and rows until the alarm under noise.

    python studies/fading.py --root data/av-digits --seeds 0..4 --out runs/fading

Trains the runs that the folder lacks: handwritten `fou` + `zer`, and av-digits, joint + unimodal. Null streams are
permutations of the clean calibration and test rows of a run. Other streams have a clean half and a half with Gaussian
noise on one modality, at a fraction of level 1 or at a level, in 20 orders of the rows. Writes fading-null.csv,
fading-delay.csv, and fading-course.csv, one stream in which noise grows, for the picture of the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from _tables import header, write_csv

from cpsc_train import train
from cpsc_train.config import apply_settings
from cpsc_train.data.noise.levels import Source
from cpsc_train.experiments.evidence import Course, gather
from cpsc_train.experiments.grid import parse_seeds
from cpsc_train.experiments.stream import Observed, fitted_trust, observe, watch
from cpsc_train.experiments.stream_picture import rolling_mean
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder
from cpsc_train.training.run import opened

DATA = {"fou-zer": ("handwritten", ("fou", "zer")), "av-digits": ("av-digits", None)}
DELTAS = (0.1, 0.05, 0.01)
DELTA = 0.01
"""Probability of any false alarm in the streams with noise."""
LEVELS = (0.125, 0.25, 0.5, 1, 2, 3, 4, 5)
"""Levels of noise; those below 1 are fractions of the severity of level 1."""
ORDERS = 20
WINDOW, EVERY = 50, 5
"""Rows of a rolling mean, and from one point of the picture to the next."""


def run(name: str, seed: int, root: str, folder: Path) -> RunFolder:
    """Return a run, trained if the folder lacks it."""
    start, modalities = DATA[name]
    finished = RunFolder(folder / f"{name}-{seed}")
    if finished.read_results() is None:
        settings = ["method.name=joint-unimodal", f"seed={seed}"]
        settings += [f"data.root={root}"] if modalities is None else []
        train(apply_settings(recipe(start, modalities=modalities), settings), finished)
    return finished


def observed(folder: RunFolder) -> tuple[Observed, Observed, dict[tuple[str, float], Observed], float]:
    """Return the calibration rows; the test rows, clean and by modality and level; and the miscoverage."""
    with opened(folder, inference=("trust",)) as (setup, evaluator):
        trust = fitted_trust(evaluator)
        if trust is None:
            raise SystemExit("the run has no variant trust")
        source, noisy = Source(setup.dataset.modalities, setup.dataset), {}
        for m in setup.dataset.modalities:
            for level in LEVELS:
                noise = source.at(m, "gaussian", max(1, int(level)))
                noise = replace(noise, severity=noise.severity * min(1, level))
                noisy[m, level] = observe(evaluator, trust, evaluator.collect("test", (noise,)))
        alpha = setup.config.conformal.alpha
        known, clean = (observe(evaluator, trust, evaluator.collect(part)) for part in ("calibration", "test"))
        return known, clean, noisy, alpha


def null_streams(known: Observed, clean: Observed, seed: int, streams: int) -> list[float]:
    """Return the largest log10 martingale of any modality on each permutation of calibration and test rows."""
    rng = np.random.default_rng(seed)
    pooled = {m: np.concatenate([known.novelty[m], clean.novelty[m]]) for m in known.novelty}
    first, rows = len(known.predictions.labels), len(known.predictions.labels) + len(clean.predictions.labels)
    largest = []
    for number in range(streams):
        order = rng.permutation(rows)
        calibration, stream = ({m: v[part] for m, v in pooled.items()} for part in (order[:first], order[first:]))
        evidence = gather(calibration, stream, delta=DELTA, seed=2 * (streams * seed + number))
        largest.append(max(one.log10.max() for one in evidence.values()))
    return largest


def delays(known: Observed, clean: Observed, noisy: Observed, modality: str) -> list[int | None]:
    """Return by order the rows from the change to the alarm of a modality: 0 if it came before, None if never."""
    rows, found = len(clean.predictions.labels), list[int | None]()
    for number in range(ORDERS):
        course = Course.drifting(np.random.default_rng(number).permutation(rows), 1)
        stream = course.each([clean.novelty, noisy.novelty])
        alarm = gather(known.novelty, stream, delta=DELTA, seed=2 * number)[modality].alarm
        found.append(None if alarm is None else max(alarm - rows // 2, 0))
    return found


def growing(
    known: Observed, clean: Observed, noisy: dict[tuple[str, float], Observed], modality: str, alpha: float
) -> Iterable[list[object]]:
    """Yield lines of fading-course.csv: noise on a modality rises by level in the second half of a stream."""
    course = Course.drifting(np.random.default_rng(0).permutation(len(clean.predictions.labels)), 5)
    tests = [clean, *(noisy[modality, level] for level in range(1, 6))]
    watched = watch(course, known, tests, [str(level) for level in range(6)], alpha=alpha, delta=DELTA)
    for m, evidence in watched.evidence.items():
        trust = rolling_mean(watched.trust[m], WINDOW)
        for row in range(EVERY - 1, len(course.rows), EVERY):
            alarmed = evidence.alarm is not None and row + 1 >= evidence.alarm
            yield [m, row + 1, course.condition[row], f"{trust[row]:.4g}", f"{evidence.log10[row]:.4g}", int(alarmed)]


def cell(values: list[int | None], longest: int) -> str:
    """Return the mean rows until the alarm, with streams without one counted as the longest, and their number."""
    late = sum(value is None for value in values)
    mean = np.mean([longest if value is None else value for value in values])
    return f"{'> ' if late else ''}{mean:.0f}" + (f" ({late} of {len(values)} without alarm)" if late else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the av-digits data")
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--streams", type=int, default=400, help="null streams of each run")
    parser.add_argument("--out", type=Path, default=Path("runs/fading"))
    options = parser.parse_args()
    nulls, lines, course = [], [], []
    for name in DATA:
        table: dict[tuple[str, float], tuple[list[float], list[float], list[int | None]]] = {}
        largest, half = [], 0
        for seed in parse_seeds(options.seeds):
            known, clean, noisy, alpha = observed(run(name, seed, options.root, options.out))
            half = len(clean.predictions.labels) - len(clean.predictions.labels) // 2
            largest += null_streams(known, clean, seed, options.streams)
            for (m, level), rows in noisy.items():
                waits = delays(known, clean, rows, m)
                down, trust = float((rows.novelty[m] > 0).mean()), float(rows.trust[m].mean())
                lines += [
                    [name, seed, m, level, number, f"{down:.4g}", f"{trust:.4g}", "" if wait is None else wait]
                    for number, wait in enumerate(waits)
                ]
                entry = table.setdefault((m, level), ([], [], []))
                for column, values in zip(entry, ([down], [trust], waits), strict=True):
                    column.extend(values)
            if name == "av-digits" and seed == 0:
                course = list(growing(known, clean, noisy, "audio", alpha))
        print(f"\n{name}\n\n" + header("δ", "null streams", "with a false alarm"))
        for delta in DELTAS:
            alarms = int(sum(value >= np.log10(len(known.novelty) / delta) for value in largest))
            nulls.append([name, delta, len(largest), alarms])
            print(f"| {delta} | {len(largest)} | {alarms} ({100 * alarms / len(largest):.2f} %) |")
        print("\n" + header("modality", "level", "down-weighted", "mean trust", "rows until the alarm"))
        for (m, level), (down, trust, waits) in table.items():
            print(f"| {m} | {level} | {100 * np.mean(down):.1f} % | {np.mean(trust):.2f} | {cell(waits, half)} |")
        write_csv(options.out / "fading-null.csv", ["data", "delta", "streams", "alarms"], nulls)
        columns = ["data", "seed", "modality", "level", "order", "down_weighted", "trust", "delay"]
        write_csv(options.out / "fading-delay.csv", columns, lines)
    write_csv(options.out / "fading-course.csv", ["modality", "row", "level", "trust", "log10", "alarmed"], course)


if __name__ == "__main__":
    main()
