"""Run folders: the files of a run."""

from cpsc_train.runs.folder import RunFolder

__all__ = ["RunFolder"]
