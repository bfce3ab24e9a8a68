"""A stream of two views of the digits under trust, one of which fades, for a figure of the documentation.

Shapes: 2,000 rows, d numbers in a view, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from cpsc_rsc import ConformalTrust, HeldOutCopy

HELD_OUT, CALIBRATION, STREAM = slice(800, 1000), slice(1000, 1200), slice(1200, 2000)
"""Rows after the 800 for training."""


def watched(
    values: Mapping[str, np.ndarray], classes: np.ndarray, weights: Mapping[str, np.ndarray], *, fades: str
) -> tuple[dict[str, np.ndarray], ...]:
    """Return novelty of calibration rows, and novelty and trust of a stream whose second half is noisy in one view.

    Each view is its own feature, with one depth. Distances are those to the training rows; thresholds and curves are
    fitted to the held-out rows, clean and with noise on one view.

    Parameters
    ----------
    values
        By view, (2000, d) standardised numbers.
    classes
        (2000,) labels.
    weights
        By view, (d + 1, C) weights of a logistic regression on the training rows, the last of them the biases.
    fades
        View whose noise grows.
    """
    inputs = {view: torch.from_numpy(x).float() for view, x in values.items()}
    linear = {view: torch.from_numpy(x).float() for view, x in weights.items()}
    labels = torch.from_numpy(classes).long()
    rng = np.random.default_rng(3)
    noise = {view: torch.from_numpy(rng.standard_normal(x.shape)).float() for view, x in values.items()}

    def at(rows: slice, **scale: torch.Tensor | float) -> dict[str, torch.Tensor]:
        return {view: x[rows] + scale.get(view, 0.0) * noise[view][rows] for view, x in inputs.items()}

    def depths(features: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor]]:
        return {view: (x,) for view, x in features.items()}

    def copy(**scale: float) -> HeldOutCopy:
        features = at(HELD_OUT, **scale)
        distances = trust.distances(depths(features))
        return HeldOutCopy(features=features, distances=distances, labels=labels[HELD_OUT], clean=not scale)

    def fused(features: dict[str, torch.Tensor], _present: object) -> torch.Tensor:
        return torch.stack([x @ linear[view][:-1] + linear[view][-1] for view, x in features.items()]).mean(0)

    trust = ConformalTrust({view: (x.shape[1],) for view, x in inputs.items()})
    trust.update(depths(at(slice(800))))
    trust.calibrate(depths(at(HELD_OUT)))
    copies = [copy(**{view: level}) for view in inputs for level in (0.5, 1.0, 2.0)]
    trust.fit_curve([copy(), *copies], fused)
    growing = torch.linspace(-1.0, 1.0, STREAM.stop - STREAM.start).clamp_min(0)[:, None]
    seen = depths(at(STREAM, **{fades: growing}))
    known, novelty = trust.novelty(depths(at(CALIBRATION))), trust.novelty(seen)
    curves = trust.trust(trust.distances(seen))
    return tuple({view: x.double().numpy() for view, x in of.items()} for of in (known, novelty, curves))
