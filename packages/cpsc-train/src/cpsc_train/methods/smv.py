"""SMV: re-sampling of single modalities, more often the less they contribute to a sample's decision.

Source: Wei et al., *Enhancing Multimodal Cooperation via Sample-level Modality Valuation*, CVPR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.evaluation.shapley import shapley
from cpsc_train.methods.base import AllReduce, Heads, Method, PartFeatures, Quantiles, StepLosses, zeroed
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.methods.rows import RowTable
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, stacked

AT_ONCE = 4096
"""Samples valued at once."""


class SMV(Method):
    """The value v(S) of modalities S is their number if the fused decision with zeros for the others is right, else 0.

    The Shapley value φ of a modality of a sample sets its number of copies, samples of this modality alone, in the next
    epoch: 2 (1 − φ), rounded, from 0 to ``most``. The source adds the copies to the epoch; here they add to the loss of
    their sample's step, with weights that have a mean of one over an epoch, so the number of steps is unchanged.
    """

    config: SMVConfig

    def __init__(self, config: SMVConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self._mean_count = torch.ones(())
        self.copies = RowTable(torch.zeros(len(modalities), 1))

    def on_fit_start(self, rows: int) -> None:
        """Allocate the copies of the training rows."""
        self.copies = RowTable(torch.zeros(len(self.modalities), rows))

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Count the copies, which may have been loaded."""
        self._count()

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the training part before every epoch after warm-up."""
        return ("train",) if epoch >= self.config.warmup else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Value each modality of each sample."""
        train = parts["train"]
        labels = torch.from_numpy(train.labels)
        with torch.no_grad():
            for first in range(0, len(labels), AT_ONCE):
                rows, device = slice(first, first + AT_ONCE), self.copies.values.device
                features = {m: torch.from_numpy(train.features[m][rows]).to(device) for m in self.modalities}
                present = {m: torch.from_numpy(mask[rows]).to(device) for m, mask in train.present.items()}
                values = values_of(model, features, labels[rows].to(device), self.modalities, present)
                copies = copies_of(values, self.config.most)
                mask = stacked(self.modalities, present, copies[0])
                self.copies.values[:, rows] = copies if mask is None else torch.where(mask, copies, 0.0)
        self._count()

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``alone_<modality>``."""
        logits = model.classify(features, present)
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels) / self._mean_count}
        diagnostics = {}
        for m, copies in zip(self.modalities, self.copies.values[:, self.rows], strict=True):
            each = cross_entropy(zeroed(model, features, {m}, present), labels, reduction="none")
            terms[f"alone_{m}"] = (copies * each).mean() / self._mean_count
            diagnostics[f"copies_{m}"] = copies.mean()
        return StepLosses(terms, logits, diagnostics)

    def _count(self) -> None:
        """Update the mean number of times that a row counts in an epoch; it reads all rows."""
        self._mean_count = 1 + self.copies.values.sum(0).mean()


@dataclass(frozen=True, kw_only=True)
class SMVConfig(MethodConfig, name="smv"):
    """Joint cross-entropy, and re-sampling of single modalities by their value for each sample."""

    source = "Wei et al., Enhancing Multimodal Cooperation via Sample-level Modality Valuation, CVPR 2024"
    method = SMV
    rules = {"warmup": COUNT, "most": NOT_NEGATIVE}
    shares = {"warmup": 5 / 60}
    search = {"most": Range(1, 5)}

    warmup: int = 5
    """Epochs of joint training before samples are valued."""
    most: int = 3
    """Largest number of copies of a modality of a sample."""


def values_of(
    model: MultimodalClassifier,
    features: Heads,
    labels: Tensor,
    modalities: tuple[str, ...],
    present: Present = COMPLETE,
) -> dict[str, Tensor]:
    """Return φ {m: (B,)} of features {m: (B, d)} and labels (B,); they add up to M if the decision is right.

    M is the number of modalities that a sample has.
    """

    def value(kept: frozenset[str]) -> Tensor:
        mask = stacked(kept, present, labels)
        right = (zeroed(model, features, kept, present).argmax(-1) == labels).to(torch.float32)
        return (len(kept) if mask is None else mask.sum(0)) * right

    return shapley(modalities, value)


def copies_of(values: dict[str, Tensor], most: int) -> Tensor:
    """Return the number of copies of each modality, (M, B), from φ {m: (B,)}.

    Examples
    --------
    >>> copies_of({"a": torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5])}, most=3).tolist()
    [[3.0, 2.0, 1.0, 0.0, 0.0]]
    """
    return (2 * (1 - torch.stack(list(values.values())))).round().clamp(0, most)
