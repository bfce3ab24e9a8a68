"""Weights of training rows from conformal p-values of their labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from conformal_core import LAC, p_values
from cpsc_train.methods.base import PartFeatures
from cpsc_train.methods.rows import RowWeights
from cpsc_train.models import FUSED, MultimodalClassifier


class RowTrust(RowWeights):
    """Weights of training rows from their labels, the same for all heads; 1 before the first `on_features`.

    The score of a row is how improbable the fused head finds its label, 1 − f(x)_y, and its conformal p-value the
    fraction of calibration rows with at least as large a score, itself included. Rows with a p-value of at most
    (W + 1)/(N' + 1) are left out, where W of the N' calibration rows have a label that the fused head gets wrong, for
    whatever reason: they conform less than all calibration rows but W. So the fraction of bad rows need not be known.
    If calibration rows are as bad as training rows, W contains that fraction; on clean ones, wrong labels conform less
    than nearly all.

    Notes
    -----
    Cost of `on_features`: O(N d C) and a sort. The model was trained on the training rows: memorised rows look more
    conforming than they would to another model. A row that is left out is not memorised.
    """

    def on_features(self, model: MultimodalClassifier, training: PartFeatures, calibration: PartFeatures) -> None:
        """Update the weights with the current model."""
        reference, probabilities = (_probabilities(model, part) for part in (calibration, training))
        wrong = int((reference.argmax(-1) != calibration.labels).sum())
        score = LAC()
        p = p_values(score(reference, calibration.labels), score(probabilities, training.labels))
        weights = np.where(np.asarray(p) > (wrong + 1) / (len(calibration.labels) + 1), 1.0, 0.0)
        mean = weights.mean()
        weights = weights / mean if mean > 0 else np.ones_like(weights)
        self.update(dict.fromkeys(self.heads, weights))


def _probabilities(model: MultimodalClassifier, part: PartFeatures) -> NDArray[np.float64]:
    device = next(model.heads.parameters()).device
    with torch.no_grad():
        present = {m: torch.from_numpy(mask).to(device) for m, mask in part.present.items()}
        logits = model.classify({m: torch.from_numpy(h).to(device) for m, h in part.features.items()}, present)
    probabilities: NDArray[np.float64] = logits[FUSED].double().softmax(-1).cpu().numpy()
    return probabilities
