"""Runs of several variants and seeds, each in its own run folder; finished runs are reused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from cpsc_train.config import parse_json, read_toml, write_toml
from cpsc_train.errors import UserError
from cpsc_train.experiments.workers import Workers
from cpsc_train.interrupts import end_children
from cpsc_train.output import Output, column
from cpsc_train.reading import read_file
from cpsc_train.training import RunConfig
from cpsc_train.training.settled import settled
from cpsc_train.writing import make_folder, refuse_link

Results = dict[str, list[dict[str, Any]]]
"""By variant, the ``results.json`` of every seed, in the order of the seeds."""


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


class Grid:
    """Every variant with every seed, in run folders ``VARIANT/seed-N``; the seed of each configuration is replaced."""

    def __init__(self, folder: Path, variants: Mapping[str, RunConfig], seeds: Sequence[int]) -> None:
        self._folder = folder
        complete = {name: settled(config) for name, config in variants.items()}
        self._configs = {
            (name, seed): replace(config, seed=seed) for seed in seeds for name, config in complete.items()
        }

    def path(self, variant: str, seed: int) -> Path:
        """Return the run folder of a variant and a seed."""
        return self._folder / re.sub(r"[^A-Za-z0-9_.=+-]+", "_", variant) / f"seed-{seed}"

    def run(self, *, jobs: int, console: Output, quiet: bool = False, workers: Workers | None = None) -> Results:
        """Start missing runs, resume interrupted ones, and return the results of all runs.

        `jobs` is the number of parallel runs, each a process, of `workers` if given. Raises UserError if a folder holds
        a run of another configuration, or a run fails; names its log.
        """
        if jobs < 1:
            raise UserError(f"jobs must be at least 1, got {jobs}")
        for (name, seed), config in self._configs.items():
            _refuse_another(self.path(name, seed), config)
        columns = (
            column("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        processes = Workers(jobs) if workers is None else nullcontext(workers)
        with processes as started, progress, ThreadPoolExecutor(jobs) as pool:
            task = progress.add_task("runs", total=len(self._configs))
            waiting = {pool.submit(self._one, name, seed, started): (name, seed) for name, seed in self._configs}
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    future.result()
                    progress.advance(task)
                    if not quiet and not console.is_terminal:
                        name, seed = waiting[future]
                        console.print(f"{done}/{len(waiting)} {name} seed {seed}", soft_wrap=True)
            except BaseException as stop:
                if isinstance(stop, KeyboardInterrupt):  # after an error, the running ones are completed
                    end_children()
                pool.shutdown(cancel_futures=True)
                raise
        results: Results = {}
        for name, seed in self._configs:
            file = self.path(name, seed) / "results.json"
            results.setdefault(name, []).append(dict(parse_json(read_file(file))))
        return results

    def _one(self, name: str, seed: int, workers: Workers) -> None:
        folder = self.path(name, seed)
        if (folder / "results.json").exists():
            return
        make_folder(folder.parent, below=self._folder)
        arguments = ["train", "--quiet"]
        if (folder / "config.toml").exists():
            arguments += ["--resume", str(folder)]
        else:
            config = folder.with_suffix(".toml")
            write_toml(config, self._configs[name, seed].to_plain())
            arguments += ["--config", str(config), "--out", str(folder)]
        log = folder.with_suffix(".log")
        refuse_link(log)
        log.write_bytes(b"")
        code = workers.run(arguments, log)
        if code:
            last = next(reversed(log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]), "")
            raise UserError(f"{name} seed {seed} ended with code {code}: {last} (all of it: {log})")


def _refuse_another(folder: Path, config: RunConfig) -> None:
    file = folder / "config.toml"
    if file.exists() and read_toml(file) != config.to_plain():
        raise UserError(f"{folder}: holds a run of another configuration: choose another --out")
