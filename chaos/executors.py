"""SIGKILL of workers, raylet and driver of Ray, of jobs of Slurm on this machine, and of one of two searches.

After each kill, the command ends well, or with one sentence, and the same command completes the grid. The grid equals
one that was trained undisturbed by local processes; no finished run is trained again, and no epoch twice. Needs ray and
submitit. About fifteen minutes on two cores.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _trials import COMMAND, Running, Trials, descendants, options, outcomes, run, small, workplace
from killed_commands import search

PATIENCE = 900.0
"""Seconds after which a command counts as hanging; Ray notices after a minute that its raylet is dead."""
RAY, SLURM = ["--executor", "ray", "--jobs", "2"], ["--executor", "slurm:cluster=local"]
WORKER, RAYLET, JOB, DRIVER = "ray::_train", "/raylet/raylet", "submitit.core._submit", ""


@dataclass(frozen=True)
class Case:
    """An executor, the kind of process that is killed, how often, and the exit code that follows."""

    name: str
    words: list[str]
    victim: str
    kills: int
    code: int

    @property
    def at_work(self) -> str:
        """The kind of process that trains a run."""
        return WORKER if self.package == "ray" else JOB

    @property
    def package(self) -> str:
        """The package that it needs."""
        return "ray" if "ray" in self.words else "submitit"


CASES = [
    Case("Ray: a worker", RAY, WORKER, 3, 0),
    Case("Ray: a worker, more often than it is replaced", [*RAY, "--jobs", "1"], WORKER, 4, 2),
    Case("Ray: its raylet", RAY, RAYLET, 1, 2),
    Case("Ray: the command", RAY, DRIVER, 1, -signal.SIGKILL),
    Case("Slurm: a job", SLURM, JOB, 1, 2),
    Case("Slurm: the command", SLURM, DRIVER, 1, -signal.SIGKILL),
]


def named(pid: int) -> str:
    """Return the command line of a process, empty after its end."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill_one(running: Running, victim: str, at_work: str, draw: random.Random) -> set[int]:
    """Kill a process of that kind at a random moment, and return it with all that ran beside it; empty if none did."""

    def alive(name: str) -> list[int]:
        return [pid for pid in descendants(running.process.pid) if name in named(pid)]

    running.wait_for(lambda: alive(victim or at_work))
    time.sleep(draw.uniform(0, 8))
    ran = set(descendants(running.process.pid))
    left = alive(victim) if victim != DRIVER else [running.process.pid] * (running.process.poll() is None)
    if not left:
        return set()
    os.kill(killed := draw.choice(left), signal.SIGKILL)
    return ran | {killed}


def try_case(trials: Trials, case: Case, place: Path, draw: random.Random, wanted: object) -> None:
    """Disturb a grid, complete it by the same command, and compare it."""
    if importlib.util.find_spec(case.package) is None:
        trials.row(case.name, f"skipped: {case.package} is not installed", ok=True)
        return
    out, log = place / f"grid-{draw.randrange(2**32)}", place / "log"
    words = [*grid(place), *case.words, "--out", out]
    # Ray reports on the output, in its own time, which of its processes died.
    running, kills, ran = Running(words, log, stdout=subprocess.DEVNULL), 0, set[int]()
    while kills < case.kills and (now := kill_one(running, case.victim, case.at_work, draw)):
        kills, ran = kills + 1, ran | now
    since = time.monotonic()
    code, took = running.end(PATIENCE), time.monotonic() - since
    sentence = code != 2 or (running.output.startswith("cpsc: error: ") and running.output.count("\n") == 1)
    faults = [] if code == case.code and sentence else [f"exit code {code}: {running.output[-300:]}"]
    while any(map(named, ran)) and time.monotonic() < since + PATIENCE:  # jobs of Slurm outlive the command
        time.sleep(0.1)
    finished = {file: file.stat().st_mtime_ns for file in out.rglob("results.json")}
    again = run(words, log, PATIENCE, stdout=subprocess.DEVNULL)
    faults += [] if again.process.returncode == 0 else [f"again: {again.output[-300:]}"]
    faults += [] if outcomes(out) == wanted else ["another outcome"]
    faults += [f"{file.parent.name} trained again" for file, at in finished.items() if file.stat().st_mtime_ns != at]
    faults += [f"{file.parent.name} has an epoch twice" for file in out.rglob("metrics.jsonl") if repeated(file)]
    what = f"{kills} kills, exit code {code} after {took:.0f} s, {len(finished)} runs were done"
    trials.row(case.name, f"{what} {'; '.join(faults)}", ok=not faults and kills == case.kills)


def repeated(metrics: Path) -> bool:
    """Return whether an epoch occurs twice."""
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    return len(set(epochs)) < len(epochs)


def grid(place: Path) -> list[str]:
    """Return the command of a grid of four runs."""
    return [*COMMAND, "benchmark", "-q", "--methods", "joint,cpsc", "--seeds", "0..1", *small(place, "epochs=40")[2:]]


def try_search(trials: Trials, place: Path, draw: random.Random) -> None:
    """Kill one of two commands that share a search, and compare the outcome of the other with that of one alone."""
    if importlib.util.find_spec("optuna") is None:
        trials.row("tune", "skipped: optuna is not installed", ok=True)
        return
    words = [*COMMAND, "tune", "-q", "--methods", "joint", "--trials", "6", *small(place, "epochs=100")[2:], "--out"]
    alone, shared = place / "alone", place / "shared"
    run([*words, alone], place / "log", PATIENCE)
    both = [Running([*words, shared, "--storage", place / "study.log"], place / f"log-{i}") for i in (0, 1)]
    both[0].wait_for(lambda: len([*shared.glob("workers/*/")]) > 1)
    time.sleep(draw.uniform(0, 3))
    both[0].process.kill()
    codes = [one.end(PATIENCE) for one in both]
    ok = codes == [-signal.SIGKILL, 0] and search(shared) == search(alone)
    trials.row("tune: one of two commands", f"exit codes {codes}: {both[1].last}", ok=ok)


def main() -> int:
    """Try all executors."""
    asked = options(__doc__)
    draw, trials = random.Random(asked.seed), Trials()
    with workplace() as place:
        cores = str(os.cpu_count())  # one thread a run, as with the other executors
        run([*grid(place), "--jobs", cores, "--out", place / "undisturbed"], place / "log", PATIENCE)
        wanted = outcomes(place / "undisturbed")
        trials.row("undisturbed", f"{len(wanted)} runs", ok=len(wanted) == 4)
        for case in CASES:
            for _ in range(1 if asked.quick else 3):
                try_case(trials, case, place, draw, wanted)
        try_search(trials, place, draw)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
