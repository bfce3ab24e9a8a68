"""Experiment trackers: observers that send the figures of a run to a tool, by the name of the tool."""

from __future__ import annotations

from importlib import import_module

from cpsc_train.config import unknown
from cpsc_train.errors import UserError
from cpsc_train.reporting.observer import Observer

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "WandB", "mlflow": "MLflow", "trackio": "Trackio"}
"""Class by name of the tool, which is also that of its module and of the extra to install."""


def tracker(name: str) -> Observer:
    """Return the observer of a tool; raise UserError if it is unknown or not installed.

    Examples
    --------
    >>> tracker("tensorbord")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cpsc_train.errors.UserError: unknown tracker 'tensorbord'; did you mean 'tensorboard'? (known: mlflow, ...)
    """
    if name not in TRACKERS:
        raise UserError(unknown("tracker", name, list(TRACKERS)))
    observer: Observer = getattr(import_module(f"{__name__}.{name}"), TRACKERS[name])()
    return observer
