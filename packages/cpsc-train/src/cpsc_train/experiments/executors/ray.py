"""Runs as tasks of a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cpsc_train.config.choice import COUNT, NOT_NEGATIVE, Rule
from cpsc_train.errors import UserError, needs, reason
from cpsc_train.experiments.executors.base import Executor
from cpsc_train.experiments.task import Task
from cpsc_train.interrupts import raise_pending

POLL = 1.0
"""Seconds between two looks at signals."""


@dataclass(frozen=True, kw_only=True)
class Ray(Executor, name="ray"):
    """Tasks of a Ray cluster, or of Ray on this machine if there is no cluster, at most `jobs` at a time.

    A task whose node or worker dies starts again up to three times, and its run resumes. The folder of the runs must be
    on a file system that all nodes share.
    """

    rules: ClassVar[Mapping[str, Rule]] = {**Executor.rules, "cpus": COUNT, "gpus": NOT_NEGATIVE}

    address: str | None = None
    """Address of the cluster. Default: that of ``RAY_ADDRESS``, or a running cluster."""
    gpus: float = 0.0
    """GPUs of a run; less than 1 shares one."""
    cpus: int = 1
    """CPU cores of a run."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[Task, int], None, None]:
        """Train the tasks; an interrupt or error ends all runs, which resume later."""
        ray = self._started()
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=3)(_train)
        queue = list(tasks)
        running: dict[Any, Task] = {}
        try:
            while queue or running:
                while queue and len(running) < self.jobs:
                    task = queue.pop(0)
                    running[remote.remote(task, self.cpus)] = task
                for reference in ray.wait(list(running), timeout=POLL)[0]:
                    yield running[reference], _result(ray, running[reference], reference)
                    del running[reference]
                raise_pending()
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _started(self) -> Any:
        with needs("ray", extra="ray"):
            import ray  # noqa: PLC0415  # an extra
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(self.address, ignore_reinit_error=True, log_to_driver=False, logging_level="error")
        except Exception as error:  # also bare ones, as when its processes die at the start
            raise UserError(f"Ray cannot be reached or started ({reason(error)}): check --executor") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray installs its own
        return ray


def _train(task: Task, threads: int) -> int:
    os.chdir(task.directory)
    return task.train(threads=threads, spawn=True)


def _result(ray: Any, task: Task, reference: Any) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayError as error:
        raise UserError(
            f"{task}: its Ray task failed ({reason(error)}): run the same command to resume it (log: {task.log})"
        ) from None
