"""Helpers of all scripts: a table with a row per trial, the command in a process of its own, small data."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np

COMMAND = [sys.executable, "-m", "cpsc_train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "localhost:0", "-m", "cpsc_train"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
TESTS = Path(__file__).parents[1] / "packages/cpsc-train/tests"


class Trials:
    """A table with one row per trial, which counts failures."""

    def __init__(self) -> None:
        self.failed = 0
        print("| trial | outcome | |\n|---|---|---|")

    def row(self, name: str, outcome: object, *, ok: bool) -> None:
        """Print a row."""
        self.failed += not ok
        text = " ".join(str(outcome).split()).replace("|", "/")
        print(f"| {name} | {text} | {'ok' if ok else 'FAILED'} |", flush=True)

    def exit_code(self) -> int:
        """Return 1 if a trial failed."""
        print(f"\n{self.failed} failed" if self.failed else "\nall passed")
        return int(self.failed > 0)


def options(description: str | None) -> argparse.Namespace:
    """Parse the options that every script has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    return parser.parse_args()


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Yield a temporary folder with ``small.npz``: 20 rows per class of the embedded data."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with np.load(str(files("cpsc_train").joinpath("data/embedded/handwritten.npz"))) as archive:
            arrays = {key: archive[key] for key in archive.files}
        rows = np.concatenate([np.flatnonzero(arrays["label"] == label)[:20] for label in range(10)])
        np.savez(folder / "small.npz", **{key: array[rows] for key, array in arrays.items()})
        yield folder


def small(folder: Path, *more: str, epochs: int = 4) -> list[str]:
    """Return the options of a run of seconds on the small data; `more` has settings ``key=value``."""
    settings = [f"data.file={folder / 'small.npz'}", "method.warmup=2", "splits.calibration=0.2", "leave_out=false"]
    return ["--epochs", str(epochs), *(part for one in (*settings, *more) for part in ("--set", one))]


def helper(name: str) -> ModuleType:
    """Return a module of the tests: ``data/layouts``, small data sets in real formats, or ``faulty_server``."""
    spec = importlib.util.spec_from_file_location(Path(name).name, TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(words: list[object], log: Path) -> int:
    """Run the command in a fork of this process, which has done the imports already, and return its process id."""
    from cpsc_train.cli import main  # noqa: PLC0415  # some scripts need no torch

    pid = os.fork()
    if pid:
        return pid
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    vars(sys.modules["__main__"]).pop("__file__", None)  # which the processes of a pool would import again
    code = 70
    with contextlib.suppress(BaseException):
        code = main([str(word) for word in words])
        sys.stdout.flush()
    os._exit(code)


class Running:
    """The command in a process, and a process group, of its own.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File for its output.
    options
        Further arguments of `subprocess.Popen`.
    """

    def __init__(self, command: list[str], log: Path, **options: object) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdout=options.pop("stdout", output),
                stderr=output,
                env=options.pop("env", ENVIRONMENT),
                process_group=0,
                # A background job of a shell ignores this signal, and so do the processes that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                **options,
            )

    def wait_for(self, ready: Callable[[], object], seconds: float = 120) -> bool:
        """Wait until `ready()` is true; return ``False`` if the process ends first or time runs out."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.002)
        return False

    def end(self, seconds: float = 120) -> int:
        """Wait for the end and return the exit code; after `seconds`, kill the process group and return 255."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return 255

    @property
    def output(self) -> str:
        """All output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def last(self) -> str:
        """The last line of the output."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


def run(command: list[object], log: Path, seconds: float = 120, **options: object) -> Running:
    """Run the command to its end."""
    running = Running([str(word) for word in command], log, **options)
    running.end(seconds)
    return running


def resident(pid: int) -> float:
    """Return the memory of a process in MiB, 0 after its end."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children(pid: int) -> list[int]:
    """Return the live child processes of a process."""
    pids = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += [int(word) for word in task.read_text().split()]
    return pids


def descendants(pid: int) -> list[int]:
    """Return the live child processes of a process, their children, and so on."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def outcome(folder: Path) -> tuple[object, object, bytes]:
    """Return the results, metrics and predictions of a finished run, without its times."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8")) | {"seconds": 0}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    timeless = [line | {"seconds": 0, "time": 0, "cost": 0} for line in lines]
    return results, timeless, (folder / "predictions.npz").read_bytes()


def outcomes(folder: Path) -> dict[str, object]:
    """Return the outcome of each finished run below a folder."""
    return {str(path.parent.relative_to(folder)): outcome(path.parent) for path in folder.rglob("results.json")}
