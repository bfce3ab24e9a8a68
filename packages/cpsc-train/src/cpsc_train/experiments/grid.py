"""Runs of several variants, divisions and seeds, each a process with its own run folder; finished runs are reused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from cpsc_train.config import parse_json, read_toml, write_toml
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import UserError
from cpsc_train.experiments.executors import Executor
from cpsc_train.experiments.task import Task
from cpsc_train.output import Output, column
from cpsc_train.reading import read_file
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig
from cpsc_train.training.settled import settled
from cpsc_train.writing import make_folder

Results = dict[str, list[dict[str, Any]]]
"""By variant, the ``results.json`` of every run, in the order of the seeds, with ``cpu_seconds``, its processor time.
With divisions, also ``division``, and ``overlap``: the number of test rows over that of all other rows, or 0 if all
divisions have the same test rows."""
USER_ERROR = 2
"""Exit code of a run that fails by its options or data."""
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
        executor: Executor,
        console: Output,
        quiet: bool = False,
        keep_going: bool = False,
    ) -> Results:
        """Start missing runs, resume interrupted ones, and return the results of all runs.

        With `keep_going`, a run that fails by its options or data, such as one whose loss is not finite, is printed,
        and its variant is left out of the results. Raises UserError if a folder holds a run of another configuration,
        or a run fails; names its log.
        """
        tasks = self._missing()
        for job, task in tasks.items():
            make_folder(task.folder.parent, below=self._folder)
            if not task.started:
                write_toml(task.config, self._configs[job].to_plain())
        variants, total = {task: job.variant for job, task in tasks.items()}, len(self._configs)
        columns = (
            column("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        failed: set[str] = set()
        with progress, closing(executor.run(list(variants), self._folder)) as ended:
            shown = progress.add_task("runs", total=total, completed=total - len(tasks))
            try:
                for done, (task, code) in enumerate(ended, total - len(tasks) + 1):
                    if code:
                        _refuse_to_go_on(task, code, keep_going=keep_going)
                        failed.add(variants[task])
                        console.print(f"left out: {_failure(task, code)}", soft_wrap=True)
                    progress.advance(shown)
                    if not quiet and not console.is_terminal:
                        console.print(f"{done}/{total} {task}", soft_wrap=True)
            except KeyboardInterrupt:
                if executor.on_interrupt:
                    console.print(executor.on_interrupt, soft_wrap=True)
                raise
        return self._read(failed)

    def plan(self, executor: Executor) -> str:
        """Return the runs that `run` would start or resume, and the jobs of a cluster, as text."""
        tasks = list(self._missing().values())
        return executor.plan(tasks, self._folder) if tasks else "all runs are finished\n"

    def _missing(self) -> dict[Job, Task]:
        """Return the tasks of unfinished runs. Raises UserError if a folder holds a run of another configuration."""
        tasks = {job: Task(str(job), self.path(*job)) for job in self._configs}
        for job, task in tasks.items():
            _refuse_another(task.folder, self._configs[job])
        return {job: task for job, task in tasks.items() if not task.done}

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
        mine = _test_ids(self.path(*job))
        redrawn = any(_test_ids(other) != mine for other in others)
        return {"division": job.division, "overlap": _overlap(run) if redrawn else 0.0}


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
def _test_ids(folder: Path) -> StringArray:
    return RunFolder(folder).read_ids("test")


def _overlap(run: Mapping[str, Any]) -> float:
    rows = run["data"]
    return float(rows["test"] / sum(rows[part] for part in ("train", "calibration", "validation")))


def _refuse_to_go_on(task: Task, code: int, *, keep_going: bool) -> None:
    if not keep_going or code != USER_ERROR:
        raise UserError(_failure(task, code))


def _failure(task: Task, code: int) -> str:
    last = next(reversed(task.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]), "")
    return f"{task} ended with code {code}: {last} (full log: {task.log})"


def _refuse_another(folder: Path, config: RunConfig) -> None:
    file = folder / "config.toml"
    if file.exists() and read_toml(file) != config.to_plain():
        raise UserError(f"{folder}: holds a run of another configuration: choose another --out")
