"""Growth of memory and of open files over minutes of training, and of online predictors and `cpsc stream`.

Fits a line to resident memory over time. Its slope, in kB a minute, must be within three standard errors (over blocks)
of zero, or below 100 kB a minute (140 MB a day). About 22 minutes.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from _trials import COMMAND, Running, Trials, options, resident, run, small, workplace

from conformal_core import ACI, APS, SAOCP, AbsoluteResidual, DtACI, OnlineClassifier, OnlineRegressor, Window

NEGLIGIBLE = 100.0
"""kB a minute: 140 MB a day."""
BLOCKS = 10
SETTLED = 2000
"""Rows after which every memory is full."""
LEVELS = [partial(ACI, alpha=0.1, gamma=0.005), partial(DtACI, alpha=0.1), partial(SAOCP, alpha=0.1, scale=1.0)]


def look(pid: int) -> tuple[float, int]:
    """Return the resident memory in kB and the number of open files."""
    return 1024 * resident(pid), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def slope(seconds: list[float], kilobytes: list[float]) -> tuple[float, float]:
    """Return the slope in kB a minute and its standard error, from means of blocks, since neighbours are correlated."""
    x = np.array([block.mean() for block in np.array_split(np.array(seconds) / 60, BLOCKS)])
    y = np.array([block.mean() for block in np.array_split(np.array(kilobytes), BLOCKS)])
    (line, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(line), float(np.sqrt(covariance[0, 0]))


def alive(pid: int) -> bool:
    """Return whether a process is alive."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def watched(trials: Trials, name: str, pid: int, settled: Callable[[], object], seconds: float) -> None:
    """Sample a process twice a second once it has settled, and report its growth."""
    while not settled() and alive(pid):
        time.sleep(0.1)
    began, looks = time.monotonic(), []
    while time.monotonic() - began < seconds and alive(pid):
        looks.append((time.monotonic() - began, *look(pid)))
        time.sleep(0.5)
    if len(looks) < 3 * BLOCKS:
        trials.row(name, "the process ended", ok=False)
        return
    times, memory, opened = map(list, zip(*looks, strict=True))
    line, error = slope(times, memory)
    length, size = times[-1] - times[0], memory[-1] / 1024
    text = f"{line:+.0f} ± {error:.0f} kB a minute over {length:.0f} s, at {size:.0f} MiB"
    half = len(opened) // 2
    first, last = min(opened[:half]), min(opened[half:])  # short-lived files do not count
    text += f"; open files {first} in the first half, {last} in the second"
    trials.row(name, text, ok=(line < 3 * error or line < NEGLIGIBLE) and last <= first)


def epochs_of(folder: Path) -> bool:
    """Return whether a run is past the epochs in which its memory settles."""
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and metrics.read_bytes().count(b"\n") > 20


def streaming(seed: int, settled: Path) -> None:
    """Predict and learn indefinitely: one label in ten never arrives, the others in random order, 50 rows at a time."""
    warnings.simplefilter("ignore")  # about rows without a label, given once
    draw = np.random.default_rng(seed)
    classifiers = [OnlineClassifier(APS(), memory=Window(100), level=level(), max_pending=60) for level in LEVELS]
    residual = AbsoluteResidual()
    regressors = [OnlineRegressor(residual, memory=Window(100), level=level(), max_pending=60) for level in LEVELS]
    for block in count():
        if block * 50 >= SETTLED:
            settled.touch()
        rows = [(draw.dirichlet(np.ones(5)), np.float64(draw.standard_normal())) for _ in range(50)]
        for place, (probs, value) in enumerate(rows):
            for one in classifiers:
                one.predict(probs)
            for one in regressors:
                one.predict(value, ids=50 * block + place)
        for place in draw.permutation(50)[draw.random(50) < 0.9]:
            probs, value = rows[place]
            for one in classifiers:
                one.update(probs, int(draw.integers(5)))
            for one in regressors:
                one.update(value, value + draw.standard_normal(), ids=50 * block + int(place))


def main() -> int:
    """Watch training, online predictors, and repeated `cpsc stream`."""
    asked = options(__doc__)
    seconds = 30.0 if asked.quick else 300.0
    trials = Trials()
    with workplace() as place:
        log, finished = place / "log", place / "finished"
        run([*COMMAND, "train", "-q", *small(place), "--out", finished], log)
        again = {"online predictors": (streaming, asked.seed), "cpsc stream": (commands, finished)}
        for name, (target, what) in again.items():
            settled = place / f"{name} settled"
            process = multiprocessing.get_context("spawn").Process(target=target, args=(what, settled), daemon=True)
            process.start()
            watched(trials, f"{name}, repeated", process.pid, settled.exists, seconds)
            process.kill()
        for name, more in {"training": [], "training, 2 workers": ["compute.workers=2"]}.items():
            folder = place / name.replace(" ", "-")
            settings = small(place, "checkpoints.every_steps=20", *more, epochs=1_000_000)
            running = Running([*COMMAND, "train", "-q", *settings, "--out", folder], log)
            watched(trials, name, running.process.pid, partial(epochs_of, folder), seconds)
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()
    return trials.exit_code()


def commands(folder: Path, settled: Path) -> None:
    """Run `cpsc stream` in this process indefinitely."""
    from cpsc_train.cli import main as cpsc  # noqa: PLC0415  # only this trial needs torch

    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    for done in count():
        if done == 5:
            settled.touch()
        cpsc(["stream", str(folder), "--order", "random"])
        gc.collect()  # garbage that awaits a collection is not growth


if __name__ == "__main__":
    sys.exit(main())
