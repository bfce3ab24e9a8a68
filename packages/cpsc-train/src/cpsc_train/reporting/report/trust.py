"""Section on inference variants that weight modalities: which they down-weight, under each condition."""

from __future__ import annotations

from collections.abc import Sequence

from cpsc_train.reporting.figures import ABSENT, down_weighted
from cpsc_train.reporting.report.panel import Section, Table, individual, of
from cpsc_train.reporting.report.source import PLAIN, Run

WEIGHTS = "trust"
"""Key of the weights of a condition: by modality, the fraction of down-weighted rows, and the mean."""


def trust(runs: Sequence[Run]) -> Section:
    """List the rows in which each modality is down-weighted, and its mean weight, by condition and variant."""
    caption = (
        "Test rows in which a modality is down-weighted, in %, and in brackets its mean weight; darker is lower. "
        f"{ABSENT}: the modality is missing. A high fraction with a mean of 1.00 means that the modality is unusual "
        "but, on held-out rows, worth its full weight: it changes the prediction sets, not the decision."
    )
    tables = [
        _table(run, name, runs)
        for run in individual(runs)
        for name, test in run.tests.items()
        if name != PLAIN and WEIGHTS in test["clean"]
    ]
    return Section("Trust in modalities", caption, [], tables)


def _table(run: Run, name: str, runs: Sequence[Run]) -> Table:
    entries = {condition: figures[WEIGHTS] for condition, figures in run.tests[name].items()}
    results = (run.results or {})["inference"][name]
    notes = "".join(f" {note}." for note in results["notes"])
    seen = f" Fitted with {', '.join(results['seen'])}." if results["seen"] else ""
    return Table(
        f"Weights of {name}{of(run, runs)}.{seen}{notes}",
        ["condition", *run.modalities],
        [[condition, *(down_weighted(by.get(m)) for m in run.modalities)] for condition, by in entries.items()],
        [[1 - by[m]["mean"] if m in by else 0 for m in run.modalities] for by in entries.values()],
    )
