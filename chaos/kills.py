"""SIGKILL at 50 random moments of training, every third inside the write of a checkpoint.

After each kill, every finished file of the run folder must be readable and `cpsc train --resume` must continue; a run
that was killed must have the results of one that was not, to the last digit. About two minutes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from _trials import Trials, options, outcome, small, start, workplace

from cpsc_train.runs import RunFolder
from cpsc_train.training import checkpoint, train  # noqa: F401  # import torch before forking, which keeps trials short
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process


def partials(folder: Path) -> list[Path]:
    """Return the files that are being written."""
    return [*folder.glob("*.partial"), *folder.glob("checkpoints/*.partial")]


def kill(pid: int, folder: Path, *, delay: float, in_a_write: bool) -> str | None:
    """Kill a process after `delay` seconds, or inside the next write; return where it was, ``None`` if it had ended."""
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline or (in_a_write and not partials(folder)):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return None
        if not in_a_write:
            time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    written = partials(folder)
    return f"inside {written[0].name}" if written else "between writes"


def broken(folder: Path) -> str:
    """Return which finished file cannot be read."""
    run = RunFolder(folder)
    try:
        run.read_config()
        run.read_metrics()
        for file in folder.glob("*.pt"):
            checkpoint.load(file, torch.device("cpu"))
        Checkpoints(run.checkpoints, 1, Process()).newest()
    except ValueError as error:
        return str(error)
    return "" if run.read_environment() or not (folder / "metrics.jsonl").exists() else "environment.json"


def main() -> int:
    """Kill, resume, compare."""
    asked = options(__doc__)
    draw = random.Random(asked.seed)
    torch.set_num_threads(1)
    trials = Trials()
    with workplace() as place:
        words = ["train", "--quiet", *small(place, "checkpoints.every_steps=1", "ema=0.9", epochs=12)]
        os.waitpid(start([*words, "--out", place / "whole"], place / "log"), 0)
        kills, runs, leftovers = 0, 0, 0
        wanted = 10 if asked.quick else 50
        while kills < wanted:
            folder = place / f"run-{runs}"
            runs += 1
            for attempt in range(1000):
                again = ["--resume", str(folder)] if folder.exists() else ["--out", str(folder)]
                pid = start(["train", "--quiet", *again] if folder.exists() else [*words, *again], place / "log")
                if kills < wanted and attempt < 10:
                    where = kill(pid, folder, delay=draw.uniform(0.05, 0.8), in_a_write=draw.random() < 0.34)
                    if where:
                        kills += 1
                        fault = broken(folder) if (folder / "config.toml").exists() else ""
                        steps = max((p.name for p in folder.glob("checkpoints/step-????????")), default="no step")
                        trials.row(f"kill {kills}", f"{where}, at {steps} {fault}", ok=not fault)
                        continue
                    break
                os.waitpid(pid, 0)
                break
            same = outcome(folder) == outcome(place / "whole")
            leftovers = len(partials(folder))
            ok = same and not leftovers
            trials.row(f"outcome of {folder.name}", f"same as without kills: {same}; leftovers: {leftovers}", ok=ok)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
