"""Which training rows are believed: conformal p-values of their inputs or of their labels, as weights of losses."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conformal_core import LAC, Mahalanobis, NoveltyGate, p_values
from cpsc_train.methods.base import Heads, PartFeatures
from cpsc_train.methods.rows import RowTable
from cpsc_train.models import FUSED, MultimodalClassifier

Evidence = Literal["input", "label"]


class RowTrust(nn.Module):
    """A weight of every training row for every head, with mean 1 over the rows; 1 until rows have been examined.

    The conformal p-value of a row is the fraction of calibration rows with at least as large a score, itself included.

    ``input``: the score is how far the features of a modality lie from the nearest class mean of the training features
    (Mahalanobis). The weight is the p-value, and for the fused head the mean over modalities.

    ``label``: the score is how improbable the fused head finds the label that the row has, 1 − f(x)_y. Rows with a
    p-value of at most (W + 1)/(N' + 1) are left out, where W of the N' calibration rows have a label that the fused
    head gets wrong, for whatever reason: what is left out conforms less than all calibration rows but
    W. So no share of bad rows has to be known. On calibration rows as bad as those of training W holds that share, and
    on clean ones wrong labels conform less than nearly all.

    Parameters
    ----------
    evidence
        What is looked at.
    modalities
        Their names.
    rows
        Number of training rows N.

    Notes
    -----
    Cost of `on_features`: O(N (d² + d C)) a modality for ``input``, O(N d C) for ``label``, and a sort. The model has
    seen the training rows: what it has memorised looks less nonconforming than it would to another model. A row that is
    left out is not memorised.
    """

    def __init__(self, evidence: Evidence, modalities: tuple[str, ...], rows: int) -> None:
        super().__init__()
        self._evidence = evidence
        self._heads = (*modalities, FUSED)
        self.of_rows = RowTable(torch.ones(len(self._heads), rows))

    def on_features(self, model: MultimodalClassifier, training: PartFeatures, calibration: PartFeatures) -> None:
        """Look at all training and calibration rows with the model as it is."""
        if self._evidence == "input":
            of = {m: self._of_input(m, training, calibration, model.classes) for m in self._heads[:-1]}
            of[FUSED] = np.mean(list(of.values()), axis=0)
        else:
            of = dict.fromkeys(self._heads, _of_label(model, training, calibration))
        weights = np.stack([of[head] for head in self._heads])
        mean = weights.mean(1, keepdims=True)
        self.of_rows.values.copy_(torch.from_numpy(np.where(mean > 0, weights / np.where(mean > 0, mean, 1), 1)))

    def weights(self, rows: Tensor | None = None) -> Heads:
        """Return by head the weights (B,) of training rows (B,), or those of all."""
        found = self.of_rows.values if rows is None else self.of_rows.values[:, rows]
        return dict(zip(self._heads, found.unbind(), strict=True))

    @staticmethod
    def _of_input(
        modality: str, training: PartFeatures, calibration: PartFeatures, classes: int
    ) -> NDArray[np.float64]:
        gate = NoveltyGate(Mahalanobis(classes=classes))
        gate.score.update(training.features[modality], training.labels)
        gate.calibrate(calibration.features[modality])
        return np.asarray(gate.p_values(training.features[modality]), dtype=np.float64)


def _of_label(model: MultimodalClassifier, training: PartFeatures, calibration: PartFeatures) -> NDArray[np.float64]:
    usual, new = (_probabilities(model, seen) for seen in (calibration, training))
    wrong = int((usual.argmax(-1) != calibration.labels).sum())
    score = LAC()
    p = p_values(score(usual, calibration.labels), score(new, training.labels))
    return np.where(np.asarray(p) > (wrong + 1) / (len(calibration.labels) + 1), 1.0, 0.0)


def _probabilities(model: MultimodalClassifier, seen: PartFeatures) -> NDArray[np.float64]:
    device = next(model.heads.parameters()).device
    with torch.no_grad():
        logits = model.classify({m: torch.from_numpy(h).to(device) for m, h in seen.features.items()})
    found: NDArray[np.float64] = logits[FUSED].double().softmax(-1).cpu().numpy()
    return found
