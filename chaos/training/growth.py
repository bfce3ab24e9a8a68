"""Growth of memory and of open files over minutes of training, and of online predictors and `cpsc stream`.

The slope of a line through resident memory by time, in kB a minute, with its standard error over blocks: no more than
three of these above zero, or below what a day would notice. About 22 minutes.
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
from _trials import COMMAND, Running, Trials, options, run, small, workplace

from conformal_core import ACI, APS, SAOCP, AbsoluteResidual, DtACI, OnlineClassifier, OnlineRegressor, Window

NEGLIGIBLE = 100.0
"""kB a minute: 140 MB a day."""
BLOCKS = 10
SETTLED = 2000
"""Rows after which every memory is full."""
LEVELS = [partial(ACI, alpha=0.1, gamma=0.005), partial(DtACI, alpha=0.1), partial(SAOCP, alpha=0.1, scale=1.0)]


def look(pid: int) -> tuple[float, int]:
    """Return the resident memory in kB and the number of open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def slope(seconds: list[float], kilobytes: list[float]) -> tuple[float, float]:
    """Return the slope in kB a minute and its standard error, from the means of blocks: looks in a row are alike."""
    x = np.array([block.mean() for block in np.array_split(np.array(seconds) / 60, BLOCKS)])
    y = np.array([block.mean() for block in np.array_split(np.array(kilobytes), BLOCKS)])
    (line, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(line), float(np.sqrt(covariance[0, 0]))


def alive(pid: int) -> bool:
    """Return whether a process has not ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def watched(trials: Trials, name: str, pid: int, settled: Callable[[], object], seconds: float) -> None:
    """Look at a process twice a second from when it has settled, and report the growth."""
    while not settled() and alive(pid):
        time.sleep(0.1)
    began, looks = time.monotonic(), []
    while time.monotonic() - began < seconds and alive(pid):
        looks.append((time.monotonic() - began, *look(pid)))
        time.sleep(0.5)
    if len(looks) < 3 * BLOCKS:
        trials.row(name, "it ended", ok=False)
        return
    times, memory, opened = map(list, zip(*looks, strict=True))
    line, error = slope(times, memory)
    length, size = times[-1] - times[0], memory[-1] / 1024
    told = f"{line:+.0f} ± {error:.0f} kB a minute over {length:.0f} s, at {size:.0f} MiB"
    half = len(opened) // 2
    first, last = min(opened[:half]), min(opened[half:])  # files of a moment do not count
    told += f"; open files {first} in the first half, {last} in the second"
    trials.row(name, told, ok=(line < 3 * error or line < NEGLIGIBLE) and last <= first)


def epochs_of(folder: Path) -> bool:
    """Return whether a run has done the epochs in which its memory settles."""
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and metrics.read_bytes().count(b"\n") > 20


def streaming(seed: int, settled: Path) -> None:
    """Predict and learn without an end: one label in ten never comes, the others 50 rows at a time in any order."""
    warnings.simplefilter("ignore")  # of rows that are forgotten, once
    draw = np.random.default_rng(seed)
    classes = [OnlineClassifier(APS(), memory=Window(100), level=level(), max_pending=60) for level in LEVELS]
    reals = [OnlineRegressor(AbsoluteResidual(), memory=Window(100), level=level(), max_pending=60) for level in LEVELS]
    waiting: list[tuple[int, np.ndarray, float]] = []
    for row in count():
        if row == SETTLED:
            settled.touch()
        probs, value = draw.dirichlet(np.ones(5)), np.float64(draw.standard_normal())
        for one in classes:
            one.predict(probs)
        for one in reals:
            one.predict(value, ids=row)
        waiting.append((row, probs, value))
        if len(waiting) < 50:
            continue
        for place in draw.permutation(50):
            number, late, real = waiting[place]
            if draw.random() < 0.9:
                for one in classes:
                    one.update(late, int(draw.integers(5)))
                for one in reals:
                    one.update(real, real + draw.standard_normal(), ids=number)
        waiting.clear()


def main() -> int:
    """Watch training, a stream of predictors, and `cpsc stream` again and again."""
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
            watched(trials, f"{name}, again and again", process.pid, settled.exists, seconds)
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
    """Run `cpsc stream` in this process without an end."""
    from cpsc_train.cli import main as cpsc  # noqa: PLC0415  # only this trial needs torch

    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    for done in count():
        if done == 5:
            settled.touch()
        cpsc(["stream", str(folder), "--order", "random"])
        gc.collect()  # what awaits the next collection of the whole is not growth


if __name__ == "__main__":
    sys.exit(main())
