"""SIGTERM and SIGINT, once and twice, at random moments of every long command; and a closed pipe on its output.

The command must end within seconds with exit code 130 or 143 (141 for the pipe), without a traceback and without live
child processes; the same command, or --resume, must then succeed. About eight minutes on two cores.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path

from _trials import COMMAND, Running, Trials, children, options, run, small, workplace

WAYS = [(signal.SIGINT, False, True), (signal.SIGTERM, False, False), (signal.SIGINT, True, False)]
WAYS += [(signal.SIGTERM, True, True)]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
PATIENCE = 30
"""Seconds after which a command that got a signal counts as hanging."""


def commands(place: Path) -> dict[str, list[str]]:
    """Return every long command, each with its own folder."""
    settings = [*small(place)[2:], "--set", "epochs=4", "--out"]
    long = small(place, epochs=60)
    return {
        "train": ["train", *long, "--out", str(place / "run")],
        "train, 2 workers": ["train", *long, "--set", "compute.workers=2", "--out", str(place / "read")],
        "train --seeds": ["train", "--seeds", "0..2", "--jobs", "2", *settings, str(place / "seeds")],
        "benchmark": ["benchmark", "--methods", "joint,cpsc", "--seeds", "0..1", *settings, str(place / "benchmark")],
        "tune": ["tune", "--methods", "joint", "--trials", "4", "--jobs", "2", *settings, str(place / "tune")],
        "ablate": ["ablate", "--seeds", "0", *settings, str(place / "ablate")],
        "evaluate": ["evaluate", str(place / "finished"), "--noise", "pix:gaussian:0.1,0.2,0.3,0.4,0.5,0.6,0.7"],
    }


def resuming(words: list[str]) -> list[str]:
    """Return the command, or the one that resumes the run that it started."""
    folder = Path(words[-1])
    one_run = words[0] == "train" and "--seeds" not in words
    return ["train", "--resume", str(folder)] if one_run and folder.exists() else words


def works(place: Path, since: float) -> bool:
    """Return whether any file but a log was written since then."""
    files = [path for path in place.rglob("*") if path.is_file() and path.suffix not in {".log", ""}]
    return any(path.stat().st_mtime > since for path in files)


def passed(until: float) -> bool:
    """Return whether a time has passed."""
    return time.monotonic() > until


def send(running: Running, number: signal.Signals, *, twice: bool, everyone: bool) -> None:
    """Send a signal to the process group, as Ctrl-C does, or to one process, as `kill` does; once or twice."""
    for _ in range(1 + twice):
        if running.process.poll() is None:
            (os.killpg if everyone else os.kill)(running.process.pid, number)
        time.sleep(0.05)


def fault_of(running: Running, code: int, wanted: int, started: list[int]) -> str:
    """Return what is wrong with how a command ended."""
    found = [] if code == wanted else [f"exit code {code}: {running.last}"]
    found += [word for word in ("Traceback", "internal error", "Exception ignored") if word in running.output]
    time.sleep(0.2)
    found += [f"process {pid} is alive" for pid in started if Path(f"/proc/{pid}").exists()]
    return "; ".join(found)


def closed_pipe(trials: Trials, words: list[str], log: Path) -> None:
    """Run a command whose output is a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    running = run([*COMMAND, *words], log, stdout=writer)
    os.close(writer)
    code = running.process.returncode
    trials.row(
        f"cpsc {' '.join(words[:2])}, closed pipe",
        f"exit code {code} {running.last}",
        ok=(code, running.output) == (141, ""),
    )


def main() -> int:
    """Stop every command in every way, then let it finish."""
    asked = options(__doc__)
    draw = random.Random(asked.seed)
    trials = Trials()
    with workplace() as place:
        log = place / "log"
        run([*COMMAND, "train", "-q", *small(place), "--out", place / "finished"], log)
        for name, words in commands(place).items():
            for (number, twice, everyone), at_work in product(WAYS[:2] if asked.quick else WAYS, (True, False)):
                if not at_work and name != "train":
                    continue  # all commands start in the same way
                running = Running([*COMMAND, *resuming(words)], log)
                if at_work and name != "evaluate":  # writes no file while it runs
                    running.wait_for(partial(works, place, time.time()), 30)
                until = time.monotonic() + draw.uniform(0.1, 3 if name == "evaluate" else 1.5)
                running.wait_for(partial(passed, until))
                started = [pid for one in children(running.process.pid) for pid in (one, *children(one))]
                alive = running.process.poll() is None
                send(running, number, twice=twice, everyone=everyone)
                since = time.monotonic()
                found = fault_of(running, running.end(PATIENCE), CODES[number] if alive else 0, started)
                what = f"{name}, {number.name}{' twice' * twice} to {'all' if everyone else 'one'}"
                took = f"{'at work' if at_work else 'at start'}{'' if alive else ', done'}, {len(started)} children"
                trials.row(what, f"{took}, {time.monotonic() - since:.1f} s to end {found}", ok=not found)
            last = run([*COMMAND, *resuming(words)], log, 300)
            code = last.process.returncode
            trials.row(f"{name}, finished", f"exit code {code}", ok=code == 0 or "the run is done" in last.output)
        for words in (["--help"], ["train", "--help"], ["export", "--help"], ["recipes", "list"], ["methods"]):
            closed_pipe(trials, words, log)
        for name in ("train", "evaluate"):
            closed_pipe(trials, [*commands(place)[name], "--out", str(place / "unread")], log)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
