"""Section on the confusion of classes on clean test rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpsc_train.evaluation import metrics
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import Section, Table, individual, of
from cpsc_train.reporting.report.source import Run

CLASSES = 40
"""Most classes of a confusion matrix; of more, those with the most errors."""


def confusion(runs: Sequence[Run]) -> Section:
    """List the rows by true and predicted class, a table for each run."""
    caption = (
        f"Clean test rows by true class (rows) and predicted class (columns), fused decision. Of more than {CLASSES} "
        "classes, those with the most errors are shown."
    )
    shown = individual([run for run in runs if run.predictions])
    return Section("Confusion", caption, [], [_confusion(run, runs) for run in shown])


def _confusion(run: Run, runs: Sequence[Run]) -> Table:
    names, labels = run.predictions["classes"], run.predictions["labels"]
    counts = metrics.confusion_matrix(run.predictions[f"probabilities/{FUSED}"], labels)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    errors = counts.sum(1) - np.diag(counts)
    places = np.sort(np.argsort(-errors, kind="stable")[:CLASSES])
    rows = [[str(names[row]), *(str(counts[row, column] or "") for column in places)] for row in places]
    header = ["true \\ predicted", *(str(names[column]) for column in places)]
    return Table(f"Rows by class{of(run, runs)}", header, rows, fractions[np.ix_(places, places)].tolist())
