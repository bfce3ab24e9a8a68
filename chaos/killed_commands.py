"""SIGKILL at 20 random moments of benchmark, tune, data prepare, report and evaluate; then the same command once more.

After each kill, every file under its final name is complete and no child process is alive. The repeated command has the
same files as one that was not killed, and no others. About ten minutes on two cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt  # noqa: F401  # import before forking, which keeps trials short
import numpy as np
import optuna  # noqa: F401
import torch
from _trials import Trials, helper, options, outcomes, small, start, workplace

from cpsc_train.config import read_toml
from cpsc_train.data import preparation  # noqa: F401
from cpsc_train.data.preparation import packing
from cpsc_train.data.storage import cache
from cpsc_train.reporting import report  # noqa: F401
from cpsc_train.training import checkpoint, train  # noqa: F401

MARK = "CHAOS_MARK"
"""Environment variable of every process that a command starts."""
NOT_CONTENT = {".lock", ".log"}
LAST_BYTES = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".html": b"</html>\n", ".csv": b"\n", ".md": b"\n"}


@dataclass(frozen=True)
class Trial:
    """A command that writes into a folder, and the part of its output that must not depend on kills."""

    name: str
    words: list[object]
    outcome: Callable[[Path], object]


def contents(path: Path) -> object:
    """Return the bytes of all files, by name."""
    if path.is_file():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in files(path)}


def runs(folder: Path) -> object:
    """Return the results of runs and the tables, without their times."""
    tables = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    return tables, outcomes(folder)


def search(folder: Path) -> object:
    """Return what does not depend on which trials were stopped: their number, and the value of the defaults."""
    tuned = read_toml(folder / "tuned.toml")
    return {
        name: (of["trials"], of["failed"], of["default"], len(list((folder / name).iterdir())))
        for name, of in tuned.items()
    }


def files(folder: Path) -> Iterator[Path]:
    """Return all files of a folder but logs and locks."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not {path.name, path.suffix} & NOT_CONTENT)


def broken(path: Path) -> list[str]:
    """Return the files under their final names that cannot be read."""
    found = []
    for file in [path] if path.is_file() else files(path):
        try:
            if not complete(file):
                found.append(f"{file.name} is cut off")
        except Exception as error:  # any error of a reader
            found.append(f"{file.name}: {error}")
    return found


def complete(file: Path) -> bool:
    """Read a file, and return whether it is complete."""
    if file.suffix == ".json":
        json.loads(file.read_bytes())
    elif file.suffix == ".toml":
        read_toml(file)
    elif file.suffix == ".npz":
        with np.load(file) as arrays:
            return all(arrays[name].size >= 0 for name in arrays)
    elif file.suffix == ".pt":
        checkpoint.load(file, torch.device("cpu"))
    elif file.suffix == ".tar":
        with tarfile.open(file) as tar:
            tar.getmembers()
    elif file.suffix == ".db":
        with contextlib.closing(sqlite3.connect(file)) as database:
            return database.execute("pragma integrity_check").fetchall() == [("ok",)]
    return file.read_bytes().endswith(LAST_BYTES.get(file.suffix, b""))


def survivors(mark: str) -> list[int]:
    """Return the processes of a command with this mark that are alive after half a minute.

    A process that is still importing torch checks for its parent afterwards.
    """
    deadline, found = time.monotonic() + 30, [0]
    while found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
                zombie = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                found += [int(process.name)] * (marked and not zombie)
    return found


def trials_in(place: Path) -> list[Trial]:
    """Return all trials."""
    native = helper("data/layouts").crema_d_native(place / "native")
    prepare = ["data", "prepare", "crema-d", "--root", native, "--set", "data.split=speaker", "--workers"]
    setting = [*small(place)[2:], "--set", "epochs=4", "-q", "--out"]
    run = place / "finished"
    os.waitpid(start(["train", "-q", *small(place, "splits.calibration=0.3"), "--out", run], place / "log"), 0)
    return [
        Trial("benchmark", ["benchmark", "--methods", "joint,cpsc", "--seeds", "0..1", *setting], runs),
        Trial("tune", ["tune", "--methods", "joint", "--trials", "4", *setting], search),
        Trial("data prepare --cache", [*prepare, 0, "--cache"], contents),
        Trial("data prepare --cache, 2 workers", [*prepare, 2, "--cache"], contents),
        Trial("data prepare --shards", [*prepare, 0, "--shards"], contents),
        Trial("data prepare --extract", [*prepare, 0, "--extract"], contents),
        Trial("report", ["report", run, "--out"], contents),
        Trial("evaluate", ["evaluate", run, "--inference", "trust,dasp", "--out"], contents),
    ]


def kill_and_go_on(place: Path, trial: Trial, trials: Trials, draw: random.Random, kills: int) -> None:
    """Kill a command `kills` times, in as many folders as needed, and compare each outcome."""
    log, slug = place / "log", re.sub(r"\W+", "-", trial.name)
    began = time.monotonic()
    code = os.waitpid(start([*trial.words, place / slug], log), 0)[1]
    lasts = time.monotonic() - began
    wanted = trial.outcome(place / slug) if code == 0 else None
    faults = [] if code == 0 else [log.read_text()]
    killed = folders = 0
    while killed < kills and not faults:
        out = place / f"{slug}-{folders}"
        folders += 1
        for last in range(1, 1000):
            os.environ[MARK] = mark = f"{slug}-{folders}-{last}"
            pid = start([*trial.words, out], log)
            if killed < kills and last < 8:
                time.sleep(draw.uniform(0.02, 0.95) * lasts)
                os.kill(pid, signal.SIGKILL)
            if os.waitpid(pid, 0)[1] == signal.SIGKILL:
                killed += 1
                faults += broken(out) if out.exists() else []
                faults += [f"process {one} is alive" for one in survivors(mark)]
                continue
            break
        text = log.read_text()
        if "error" in text or not out.exists() or trial.outcome(out) != wanted:
            faults.append(f"another outcome in {out.name}: {text[-300:]}")
        faults += [f"{left.relative_to(place)} is left" for left in (*out.rglob("*.partial"), *place.glob("*.partial"))]
    trials.row(
        trial.name, f"{killed} kills in {folders} folders of {lasts:.1f} s each {set(faults) or ''}", ok=not faults
    )


def main() -> int:
    """Kill every command."""
    asked = options(__doc__)
    draw = random.Random(asked.seed)
    torch.set_num_threads(1)
    cache.CHUNK = packing.SAMPLES = 8  # makes several files per command
    trials = Trials()
    with workplace() as place:
        for trial in trials_in(place):
            kill_and_go_on(place, trial, trials, draw, 5 if asked.quick else 20)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
