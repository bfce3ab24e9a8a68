"""Figures of an epoch and of a finished run, by path-like names."""

from __future__ import annotations

import re
from typing import Any

from cpsc_train.models import FUSED


def of_epoch(record: dict[str, Any]) -> dict[str, float]:
    """Return all figures of a line of ``metrics.jsonl``, such as ``validation accuracy/fused``."""
    sets = record["validation"]["coverage"]
    groups = {
        "loss": record["loss"],
        "train": record["train"],
        "in-loop quantile": record["in_loop_quantile"],
        "validation accuracy": record["validation"]["accuracy"],
        "validation coverage": {head: of["coverage"] for head, of in sets.items()},
        "validation threshold": {head: of["threshold"] for head, of in sets.items()},
        "validation set size": {head: of["mean_size"] for head, of in sets.items()},
        "in-loop coverage": record["validation"].get("in_loop_coverage", {}),
        "seconds": record["time"],
    }
    figures = {f"{group}/{name}": float(value) for group, named in groups.items() for name, value in named.items()}
    figures |= {"lr": float(record["lr"]), "staleness": float(record["staleness"])}
    return _named(figures)


def of_results(results: dict[str, Any]) -> dict[str, float]:
    """Return the main figures of the fused decision on the test rows, such as ``test accuracy/clean``."""
    figures = {}
    for condition, of in results["test"].items():
        sets = of["coverage"][FUSED]
        figures[f"test accuracy/{condition}"] = float(of["accuracy"][FUSED])
        figures[f"test coverage/{condition}"] = float(sets["coverage"])
        figures[f"test set size/{condition}"] = float(sets["mean_size"])
    return _named(figures)


def _named(figures: dict[str, float]) -> dict[str, float]:
    """Return figures by names that every tool accepts, where a hyphen replaces any other character."""
    return {re.sub(r"[^\w\-. /]", "-", name): value for name, value in figures.items()}
