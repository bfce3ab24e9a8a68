"""Runs of several variants, divisions and seeds, each a process with its own run folder; finished runs are reused."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from cpsc_train.config import parse_json, read_toml, write_toml
from cpsc_train.data.processes import clean_context, cores
from cpsc_train.errors import UserError
from cpsc_train.interrupts import end_children, end_with_parent, raise_pending, registered
from cpsc_train.output import Output, column
from cpsc_train.reading import read_file
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig
from cpsc_train.training.settled import settled
from cpsc_train.writing import make_folder, refuse_link

LOADED = ("cpsc_train.cli", "cpsc_train.experiments", "cpsc_train.recipes", "cpsc_train.training.run", "scipy.stats")
"""Modules that a run imports, which takes longer than a short run."""


def run_command(arguments: Sequence[str], log: Path, *, threads: int | None = None) -> int:
    """Run a command of ``cpsc``, write its output to `log`, and return its exit code.

    The command has as many `threads`, or one for each core. It ends when this process ends, and may crash alone. Raises
    KeyboardInterrupt if this process has been interrupted already.
    """
    raise_pending()
    refuse_link(log)
    log.write_bytes(b"")
    process = clean_context(LOADED).Process(target=_command, args=(list(arguments), str(log), threads))
    process.start()
    with registered(process):
        process.join()
    return int(process.exitcode or 0)


def _command(arguments: list[str], log: str, threads: int | None) -> None:
    import torch  # noqa: PLC0415  # not in the process that starts this one

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["cpsc", *arguments]
    if threads is not None:
        torch.set_num_threads(threads)
    runpy.run_module("cpsc_train", run_name="__main__")


Results = dict[str, list[dict[str, Any]]]
"""By variant, the ``results.json`` of every run, in the order of the seeds, with ``cpu_seconds``, its processor time.
With divisions, also ``division``, and ``overlap``: the number of test rows over that of all other rows, or 0 if all
divisions have the same test rows."""
EACH = "each"
"""Instead of divisions: every seed has its own division, with the same number."""


def parse_seeds(text: str) -> list[int]:
    """Read ``0..4`` (both ends included) or ``0,3,7``.

    Raises UserError for anything else, and for a seed that occurs twice.

    Examples
    --------
    >>> parse_seeds("0..2,7")
    [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"seeds must read 0..4 (the smaller first) or 0,3,7, got {text!r}")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds must be different, got {text!r}")
    return seeds


def parse_divisions(text: str) -> list[int] | str:
    """Read ``0..2`` or ``0,3,7`` as `parse_seeds` does, or `EACH`."""
    return EACH if text == EACH else parse_seeds(text)


class Job(NamedTuple):
    """A run of a grid."""

    variant: str
    seed: int
    division: int | None

    def __str__(self) -> str:
        division = "" if self.division is None else f" division {self.division}"
        return f"{self.variant} seed {self.seed}{division}"


class Grid:
    """Every variant with every seed, in run folders ``VARIANT/seed-N``; the seed of each configuration is replaced.

    With `divisions`, every variant has every seed on every division, in ``VARIANT/division-D/seed-N``, and
    ``splits.seed`` is replaced; with `EACH`, the division of a run has the number of its seed. Raises UserError if the
    data is divided by a file.
    """

    def __init__(
        self,
        folder: Path,
        variants: Mapping[str, RunConfig],
        seeds: Sequence[int],
        divisions: Sequence[int] | str | None = None,
    ) -> None:
        self._folder = folder
        complete = {name: settled(config) for name, config in variants.items()}
        self._configs = {
            Job(name, seed, division): _placed(config, seed, division)
            for division, seed in _pairs(seeds, divisions)
            for name, config in complete.items()
        }

    def path(self, variant: str, seed: int, division: int | None = None) -> Path:
        """Return the run folder of a variant, a seed and a division."""
        folder = self._folder / re.sub(r"[^A-Za-z0-9_.=+-]+", "_", variant)
        return (folder if division is None else folder / f"division-{division}") / f"seed-{seed}"

    def run(
        self,
        *,
        jobs: int,
        console: Output,
        quiet: bool = False,
        keep_going: bool = False,
        together: int | None = None,
    ) -> Results:
        """Start missing runs, resume interrupted ones, and return the results of all runs.

        `jobs` is the number of parallel runs, each a process with its part of the cores. With `keep_going`, a run that
        fails by its options or data, such as one whose loss is not finite, is printed, and its variant is left out of
        the results. `together` is the number of runs in parallel if other grids run beside this one. Raises UserError
        if a folder holds a run of another configuration, or a run fails; names its log.
        """
        if jobs < 1:
            raise UserError(f"jobs must be at least 1, got {jobs}")
        for job, config in self._configs.items():
            _refuse_another(self.path(*job), config)
        columns = (
            column("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        beside = together or jobs
        threads = max(1, cores() // beside) if beside > 1 else None
        with progress, ThreadPoolExecutor(jobs) as pool:
            task = progress.add_task("runs", total=len(self._configs))
            waiting = {pool.submit(self._one, job, threads): job for job in self._configs}
            failed: set[str] = set()
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    error = future.exception()
                    if error is not None:
                        _refuse_to_go_on(error, keep_going=keep_going)
                        failed.add(waiting[future].variant)
                        console.print(f"left out: {error}", soft_wrap=True)
                    progress.advance(task)
                    if not quiet and not console.is_terminal:
                        console.print(f"{done}/{len(waiting)} {waiting[future]}", soft_wrap=True)
            except BaseException as stop:
                if isinstance(stop, KeyboardInterrupt):  # after an error, the running ones are completed
                    end_children()
                pool.shutdown(cancel_futures=True)
                raise
        return self._read(failed)

    def _read(self, failed: Collection[str]) -> Results:
        results: Results = {}
        for job in (job for job in self._configs if job.variant not in failed):
            folder = self.path(*job)
            run = dict(parse_json(read_file(folder / "results.json")))
            run["cpu_seconds"] = RunFolder(folder).read_environment().get("cpu_seconds", run["seconds"])
            results.setdefault(job.variant, []).append(run | ({} if job.division is None else self._division(job, run)))
        return results

    def _division(self, job: Job, run: Mapping[str, Any]) -> dict[str, Any]:
        others = (self.path(*other) for other in self._configs if other.variant == job.variant)
        mine = _test_rows(self.path(*job))
        redrawn = any(_test_rows(other) != mine for other in others)
        return {"division": job.division, "overlap": _overlap(run) if redrawn else 0.0}

    def _one(self, job: Job, threads: int | None) -> None:
        folder = self.path(*job)
        if (folder / "results.json").exists():
            return
        make_folder(folder.parent, below=self._folder)
        arguments = ["train", "--quiet"]
        if (folder / "config.toml").exists():
            arguments += ["--resume", str(folder)]
        else:
            config = folder.with_suffix(".toml")
            write_toml(config, self._configs[job].to_plain())
            arguments += ["--config", str(config), "--out", str(folder)]
        log = folder.with_suffix(".log")
        code = run_command(arguments, log, threads=threads)
        if code:
            last = next(reversed(log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]), "")
            raise UserError(f"{job} ended with code {code}: {last} (full log: {log})")


def _pairs(seeds: Sequence[int], divisions: Sequence[int] | str | None) -> list[tuple[int | None, int]]:
    if divisions is None:
        return [(None, seed) for seed in seeds]
    if isinstance(divisions, str):
        return [(seed, seed) for seed in seeds]
    return [(division, seed) for division in divisions for seed in seeds]


def _placed(config: RunConfig, seed: int, division: int | None) -> RunConfig:
    config = replace(config, seed=seed)
    if division is None:
        return config
    if config.splits.file is not None:
        raise UserError(f"divisions are drawn at random, but splits.file is {config.splits.file!r}: leave one out")
    return replace(config, splits=replace(config.splits, seed=division))


@cache
def _test_rows(folder: Path) -> str:
    return json.dumps(parse_json(read_file(folder / "splits.json"))["test"])


def _overlap(run: Mapping[str, Any]) -> float:
    rows = run["data"]
    return float(rows["test"] / sum(rows[part] for part in ("train", "calibration", "validation")))


def _refuse_to_go_on(error: BaseException, *, keep_going: bool) -> None:
    if not keep_going or not isinstance(error, UserError) or " ended with code 2: " not in str(error):
        raise error


def _refuse_another(folder: Path, config: RunConfig) -> None:
    file = folder / "config.toml"
    if file.exists() and read_toml(file) != config.to_plain():
        raise UserError(f"{folder}: holds a run of another configuration: choose another --out")
