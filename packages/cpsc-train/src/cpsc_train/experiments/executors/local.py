"""Runs in processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue

import torch

from cpsc_train.data.processes import cores
from cpsc_train.experiments.executors.base import Executor
from cpsc_train.experiments.task import Task
from cpsc_train.interrupts import end_children


@dataclass(frozen=True, kw_only=True)
class Local(Executor, name="local"):
    """Processes of this machine, each with its part of the cores; parallel runs take turns on the visible GPUs."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[Task, int], None, None]:  # needs no files
        """Train the tasks; an interrupt ends all runs, and an error lets those that have started end."""
        pool = ThreadPoolExecutor(self.jobs)
        waiting = {pool.submit(self._train, task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except KeyboardInterrupt:
            end_children()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _train(self, task: Task) -> int:
        gpu = self._free.get()
        try:
            return task.train(threads=max(1, cores() // self.jobs) if self.jobs > 1 else None, gpu=gpu)
        finally:
            self._free.put(gpu)

    @cached_property
    def _free(self) -> SimpleQueue[str | None]:
        """The GPU of each of the next runs; None leaves all GPUs visible."""
        free: SimpleQueue[str | None] = SimpleQueue()
        gpus = visible_gpus()
        for job in range(self.jobs):
            free.put(gpus[job % len(gpus)] if self.jobs > 1 and gpus else None)
        return free


def visible_gpus() -> list[str]:
    """Return the visible GPUs as ``CUDA_VISIBLE_DEVICES`` names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]
