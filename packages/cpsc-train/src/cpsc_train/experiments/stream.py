"""The test rows of a run as a stream, and the coverage of conformal predictors on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conformal_core import rolling_coverage
from cpsc_train.data import Noise
from cpsc_train.errors import UserError
from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.predictors import Followed, density_ratios, follow
from cpsc_train.models import FUSED, GateConfig
from cpsc_train.reporting.report.panel import COLOURS, Panel, require_matplotlib
from cpsc_train.training.run import opened
from cpsc_train.training.setup import Setup
from cpsc_train.writing import write

Order = Literal["data", "group", "random"]
"""Order of the rows: that of the data set, one ``group`` (such as a speaker) after another, or at random."""


def stream(
    folder: Path | str,
    *,
    order: Order = "data",
    drift: Sequence[Noise] = (),
    gate: GateConfig | None = None,
    window: int = 100,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Predict the test rows of a run one after another, and reveal each label after its prediction.

    `drift` is noise of the second half of the stream; the first half is clean. `gate` takes the place of that of the
    run. `window` is the number of consecutive steps over which the lowest coverage is reported, and `picture` a PNG
    file to draw of the rolling coverage of the fused decision.

    Returns ``target``; ``rows``; ``heads``: by head and predictor ``coverage``, ``worst`` and ``mean_size``; if rows
    are weighted, ``calibration`` and ``effective``: the number of calibration rows, and their effective number. Raises
    UserError if the data set has no groups, matplotlib is needed and missing, or the picture cannot be written.
    """
    if picture is not None:
        require_matplotlib()
    with opened(folder, gate=gate) as (setup, evaluator):
        for noise in drift:
            noise.check_on(setup.dataset)
        places = _order(setup, order)
        calibration, clean = evaluator.collect("calibration"), evaluator.collect("test")
        noisy = evaluator.collect("test", drift) if drift else clean
    rows = _halves(clean, noisy, places)
    ratios = None
    if not drift:
        ratios = density_ratios(_side_by_side(calibration), _side_by_side(clean)[places])
    alpha = setup.config.conformal.alpha
    followed = {head: follow(calibration, rows, head, alpha=alpha, ratios=ratios) for head in rows.probabilities}
    if picture is not None:
        panel = Panel(
            "stream", f"Coverage of the last {window} rows, fused", _drawn(followed[FUSED], 1 - alpha, window)
        )
        write(picture, panel.render("light"))
    heads = {head: {name: one.figures(window) for name, one in by.items()} for head, by in followed.items()}
    results = {"target": 1 - alpha, "rows": len(places), "window": window, "heads": heads}
    if ratios is not None:
        results |= {
            "calibration": len(ratios[0]),
            "effective": float(ratios[0].sum() ** 2 / np.square(ratios[0]).sum()),
        }
    return results


def _order(setup: Setup, order: Order) -> NDArray[np.int64]:
    rows = setup.splits.test
    if order == "data":
        return np.argsort(rows, kind="stable")
    if order == "random":
        return np.random.default_rng(setup.config.seed).permutation(len(rows))
    groups = setup.dataset.groups
    if groups is None:
        raise UserError(f"{setup.config.data.name} has no groups to order the rows by: use --order data or random")
    return np.argsort(np.array([groups[row] for row in rows]), kind="stable")


def _halves(first: Predictions, second: Predictions, places: NDArray[np.int64]) -> Predictions:
    """Return the rows at `places`, the first half as in `first`, the rest as in `second`."""
    half = len(places) // 2
    probabilities = {
        head: np.concatenate([p[places[:half]], second.probabilities[head][places[half:]]])
        for head, p in first.probabilities.items()
    }
    return replace(first, labels=first.labels[places], probabilities=probabilities, weights={}, features={})


def _side_by_side(predictions: Predictions) -> NDArray[np.float64]:
    return np.concatenate(list(predictions.features.values()), -1).astype(np.float64)


def _drawn(followed: dict[str, Followed], target: float, window: int) -> Any:
    def draw(axes: Any) -> None:
        for place, (name, one) in enumerate(followed.items()):
            axes.plot(rolling_coverage(one.hits, window=window), color=COLOURS[place], label=name, linewidth=1.2)
        axes.axhline(target, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_xlabel("rows seen")
        axes.set_ylabel("coverage")
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=7, loc="lower right")

    return draw
