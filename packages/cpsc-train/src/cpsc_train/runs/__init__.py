"""Run folders: files of a run, their lock, and the export of its model."""

from cpsc_train.runs.folder import RunFolder

__all__ = ["RunFolder"]
