"""Options of the commands that train many runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cpsc_train.cli.options import RunOptions, flag, value

if TYPE_CHECKING:
    from cpsc_train.experiments.executors import Executor


@dataclass(frozen=True, kw_only=True)
class ManyRuns(RunOptions):
    """Options of the commands that train many runs."""

    jobs: Annotated[int, value("N")] = 1
    """Number of parallel runs."""
    executor: Annotated[str, value("E")] = "local"
    """What trains the runs: local, slurm:partition=gpu:gpus=1, or ray:gpus=1."""
    dry_run: Annotated[bool, flag] = False
    """Print the missing runs and the jobs of a cluster; train nothing."""

    def chosen_executor(self) -> Executor:
        """Return the executor; raises UserError if it or an option is unknown, or a value does not fit."""
        from cpsc_train.config import parse_choice
        from cpsc_train.experiments.executors import Executor

        return replace(parse_choice(Executor, self.executor), jobs=self.jobs)
