"""Observers of a run: console, log file, TensorBoard, and the report page."""

from cpsc_train.reporting.observer import Observer, Observers

__all__ = ["Observer", "Observers"]
