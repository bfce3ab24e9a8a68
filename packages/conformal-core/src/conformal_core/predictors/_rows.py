"""Rows that predictors are calibrated with: one label or one number each."""

import math
from typing import Any

import numpy as np

from conformal_core._convert import as_floating

Array = Any


def check_classes(probs: Array, known: int | None) -> int | None:
    """Return the number of classes of rows (..., K).

    Raises
    ------
    ValueError
        If calibration had another number of them.
    """
    count = int(probs.shape[-1]) if probs.ndim else None  # a scalar is for the score to refuse
    if known is not None and count != known and count is not None:
        raise ValueError(f"probs must have the {known} classes of calibration, got {count}")
    return count


def check_calibration(score: Any, predictions: Array, *, check: bool | None) -> None:
    """Let a regression score refuse a table of predictions, where it has such a check; see `ResidualScore`."""
    if hasattr(score, "check_calibration"):
        score.check_calibration(predictions, check=check)


def as_row_scores(name: str, scores: Array) -> Array:
    """Return scores () or (N,), those of (N, 1) as (N,).

    Raises
    ------
    ValueError
        If there are several scores a row: outputs of different scales would be pooled into one threshold.
    """
    if type(scores) is np.ndarray and scores.ndim <= 1 and scores.dtype.char in "fd":
        return scores
    scores = as_floating("scores", scores)
    if scores.ndim <= 1:
        return scores
    shape = tuple(scores.shape)
    if math.prod(shape[1:]) != 1:
        cure = "make one predictor for each column, or reshape rows that are exchangeable into one axis"
        raise ValueError(f"{name} must have shape (N,), one for each row, got {shape}: {cure}")
    return scores[(slice(None), *(0 for _ in shape[1:]))]
