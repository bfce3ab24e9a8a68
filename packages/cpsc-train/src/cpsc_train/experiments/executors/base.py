"""Interface of an executor, which trains the runs of an experiment."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cpsc_train.config import Choice
from cpsc_train.config.choice import COUNT, Rule
from cpsc_train.experiments.task import Task


@dataclass(frozen=True, kw_only=True)
class Executor(Choice):
    """Base of the executors.

    A subclass trains every task once, with `Task.train`. Tasks are safe to repeat: a finished run is not trained again,
    an interrupted one resumes, and the lock of a run folder refuses a second process. Threads may share an executor.
    """

    on_interrupt: ClassVar[str] = ""
    """Message after an interrupt, if runs continue without the command."""
    rules: ClassVar[Mapping[str, Rule]] = {"jobs": COUNT}

    jobs: int = 1
    """Number of parallel runs."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[Task, int], None, None]:
        """Train the tasks, and yield each with the exit code of its run as it ends.

        When the iterator is closed, no further task starts.

        - `folder`: for files of the executor.

        Raises UserError if the tasks cannot be run.
        """
        raise NotImplementedError

    def plan(self, tasks: Sequence[Task], folder: Path) -> str:  # of the jobs that a subclass describes
        """Return what `run` would do, as text."""
        return "".join(f"{'resume' if task.started else 'start'} {task}: {task.folder}\n" for task in tasks)
