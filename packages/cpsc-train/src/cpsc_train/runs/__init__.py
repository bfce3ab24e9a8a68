"""Run folders: the files of a run."""

from cpsc_train.runs.content import written_by_a_run
from cpsc_train.runs.folder import RunFolder

__all__ = ["RunFolder", "written_by_a_run"]
