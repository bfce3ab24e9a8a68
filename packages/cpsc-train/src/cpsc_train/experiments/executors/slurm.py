"""Runs as a job array of a Slurm cluster, submitted by submitit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cpsc_train.config.choice import COUNT, NOT_NEGATIVE, POSITIVE, Rule
from cpsc_train.errors import UserError, needs, reason
from cpsc_train.experiments.executors.base import Executor
from cpsc_train.experiments.task import Task
from cpsc_train.interrupts import end_children, raise_pending
from cpsc_train.writing import make_folder, write

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

POLL = 1.0
"""Seconds between two looks at the jobs."""
GRACE = 60.0
"""Seconds in which Slurm requeues or ends a job after its signal."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
"""Signals by which Slurm announces the end of a job to each of its processes."""


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor, name="slurm"):
    """A job array of a Slurm cluster, with at most `jobs` runs at a time.

    A job that is preempted or reaches its time limit is requeued, and its run resumes. The jobs do not need the command
    that submitted them: the same command, started again, waits for those that are still queued or running. The folder
    of the runs must be on a file system that all nodes share.
    """

    on_interrupt = "submitted jobs continue: run the same command to wait for them, or scancel to end them"
    rules: ClassVar[Mapping[str, Rule]] = {
        **Executor.rules,
        "timeout_min": COUNT,
        "gpus": NOT_NEGATIVE,
        "cpus": COUNT,
        "mem_gb": POSITIVE,
    }

    partition: str | None = None
    """Partition. Default: that of the cluster."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""
    timeout_min: int = 240
    """Time limit of a job in minutes; a run may continue over four such periods."""
    gpus: int = 0
    """GPUs of a job."""
    cpus: int = 4
    """CPU cores of a job."""
    mem_gb: float = 16.0
    """Memory of a job in GB."""
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    """slurm; or, to try a command without Slurm, local (processes) or debug (this process)."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[Task, int], None, None]:
        """Submit the tasks that have no job yet as one array, and wait for all."""
        waiting = self._attached(tasks, folder)
        missing = [task for task in tasks if task not in waiting]
        if missing:
            waiting |= self._submitted(missing, folder)
        while waiting:
            for task, job in list(waiting.items()):
                if job.done():
                    del waiting[task]
                    yield task, _result(task, job)
            raise_pending()
            time.sleep(POLL if waiting else 0)

    def plan(self, tasks: Sequence[Task], folder: Path) -> str:
        """Return the tasks and the batch script of their array."""
        with needs("submitit", extra="slurm"):
            from submitit import SlurmExecutor  # noqa: PLC0415  # an extra

        class Anywhere(SlurmExecutor):
            """Executor that is not used to submit, so that srun is not needed."""

            @classmethod
            def affinity(cls) -> int:
                return 1

        executor = Anywhere(_files(folder))
        executor.update_parameters(**executor._convert_parameters(self._parameters | self._slurm))
        if len(tasks) > 1:
            executor.parameters["map_count"] = len(tasks)
        script = executor._make_submission_file_text(executor._submitit_command_str, "plan")
        return f"{super().plan(tasks, folder)}\n{script}"

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """Parameters of a job on any cluster."""
        common = {"name": "cpsc", "timeout_min": self.timeout_min, "cpus_per_task": self.cpus, "mem_gb": self.mem_gb}
        return common | ({"gpus_per_node": self.gpus} if self.gpus else {})

    @cached_property
    def _slurm(self) -> dict[str, Any]:
        """Parameters of Slurm alone."""
        named = {key: getattr(self, key) for key in ("partition", "account", "qos")}
        return {"array_parallelism": self.jobs} | {key: value for key, value in named.items() if value is not None}

    def _executor(self, folder: Path) -> AutoExecutor:
        with needs("submitit", extra="slurm"):
            from submitit import AutoExecutor  # noqa: PLC0415  # an extra
        try:
            executor = AutoExecutor(_files(folder), cluster=self.cluster)
        except RuntimeError:  # no srun
            raise UserError("executor slurm needs srun: run the command on a login node of the cluster") from None
        executor.update_parameters(**self._parameters, **{f"slurm_{key}": value for key, value in self._slurm.items()})
        return executor

    def _submitted(self, tasks: Sequence[Task], folder: Path) -> dict[Task, Job[int]]:
        executor = self._executor(folder)
        make_folder(folder)
        from submitit.core.utils import FailedJobError  # noqa: PLC0415  # an extra

        try:
            with executor.batch():
                jobs: dict[Task, Job[int]] = {task: executor.submit(_Training(task)) for task in tasks}
        except FailedJobError as error:
            raise UserError(f"sbatch refused the jobs ({reason(error)}): change the options of --executor") from None
        if self.cluster == "slurm":
            for task, job in jobs.items():
                write(_note(task), job.job_id)
        return jobs

    def _attached(self, tasks: Sequence[Task], folder: Path) -> dict[Task, Job[int]]:
        """Return jobs of an earlier command that are queued or running."""
        with needs("submitit", extra="slurm"):
            from submitit import SlurmJob  # noqa: PLC0415  # an extra
        noted = [task for task in tasks if self.cluster == "slurm" and _note(task).exists()]
        jobs: dict[Task, Job[int]] = {
            task: SlurmJob(_files(folder), _note(task).read_text(encoding="utf-8").strip()) for task in noted
        }
        return {task: job for task, job in jobs.items() if not job.done(force_check=True)}


@dataclass(frozen=True)
class _Training:
    """What a job does."""

    task: Task

    def __call__(self) -> int:
        os.chdir(self.task.directory)
        code = self.task.train(spawn=True)
        if code in _signalled():  # the run alone has ended so far: Slurm has not yet requeued or ended the job
            time.sleep(GRACE)
        return code

    def checkpoint(self) -> DelayedSubmission:
        """End the run, and return what the requeued job does: the same, since the run resumes from its folder."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  # an extra

        end_children()
        return DelayedSubmission(self)


def _signalled() -> set[int]:
    """Return the exit codes of a run that was ended by a signal of Slurm."""
    numbers = {int(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}
    return {-number for number in numbers} | {128 + number for number in numbers}


def _result(task: Task, job: Job[int]) -> int:
    from submitit.core.utils import UncompletedJobError  # noqa: PLC0415  # an extra

    try:
        return job.result()
    except UncompletedJobError:  # also FailedJobError
        raise UserError(
            f"{task}: job {job.job_id} ended without a result: run the same command to resume it "
            f"(log of the job: {job.paths.stderr})"
        ) from None


def _files(folder: Path) -> Path:
    return folder.absolute() / "slurm"


def _note(task: Task) -> Path:
    """Return the file with the id of the job of a task."""
    return task.folder.with_suffix(".job")
