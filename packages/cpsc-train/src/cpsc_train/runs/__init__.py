"""Run folders: the files of a run."""

from cpsc_train.runs.folder import RunFolder, written_by_a_run

__all__ = ["RunFolder", "written_by_a_run"]
