"""SMV: a modality that a sample's decision does not rest on is shown alone, the more often the less it adds.

Source: Wei et al., *Enhancing Multimodal Cooperation via Sample-level Modality Valuation*, CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.evaluation.shapley import shapley
from cpsc_train.methods.base import Heads, Method, PartFeatures, StepLosses, zeroed
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.methods.rows import RowTable
from cpsc_train.models import FUSED, MultimodalClassifier

AT_ONCE = 4096
"""Samples that are valued at once."""


@dataclass(frozen=True, kw_only=True)
class SMVConfig(MethodConfig, name="smv"):
    """Joint cross-entropy, and re-sampling of single modalities by their value for each sample."""

    source = "Wei et al., Enhancing Multimodal Cooperation via Sample-level Modality Valuation, CVPR 2024"
    rules = MappingProxyType({"warmup": COUNT, "most": NOT_NEGATIVE})
    shares = MappingProxyType({"warmup": 5 / 60})
    search = MappingProxyType({"most": Range(1, 5)})

    warmup: int = 5
    """Epochs of joint training before samples are valued."""
    most: int = 3
    """How often a modality of a sample is shown alone at most."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return SMV(self, modalities)


class SMV(Method):
    """The value v(S) of modalities S is their number if the fused decision with zeros for the others is right, else 0.

    The Shapley value φ of a modality of a sample says how often it is shown alone in the next epoch: 2 (1 − φ),
    rounded, from 0 to ``most``. Copies are not met in steps of their own, as in the source, but count in the loss of
    the step in which their sample is met, with weights that have a mean of one over an epoch: as many steps as others.

    Parameters
    ----------
    config
        Options.
    modalities
        Their names.
    """

    def __init__(self, config: SMVConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self._modalities = modalities
        self._rows = torch.zeros(0, dtype=torch.int64)
        self._whole = torch.ones(())
        self.copies = RowTable(torch.zeros(len(modalities), 1))

    def on_fit_start(self, rows: int) -> None:
        """Make room for the copies of each training row."""
        self.copies = RowTable(torch.zeros(len(self._modalities), rows))

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Count the copies, which may have been loaded."""
        self._count()

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Ask for the training rows before every epoch after warm-up."""
        return ("train",) if epoch >= self.config.warmup else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Value each modality of each sample."""
        seen = parts["train"]
        labels = torch.from_numpy(seen.labels)
        with torch.no_grad():
            for first in range(0, len(labels), AT_ONCE):
                rows, device = slice(first, first + AT_ONCE), self.copies.values.device
                features = {m: torch.from_numpy(seen.features[m][rows]).to(device) for m in self._modalities}
                values = values_of(model, features, labels[rows].to(device), self._modalities)
                self.copies.values[:, rows] = copies_of(values, self.config.most)
        self._count()

    def on_batch_start(self, rows: Tensor) -> None:
        """Note which samples come next."""
        self._rows = rows

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused`` and ``alone_<modality>``."""
        logits = model.classify(features)
        terms = {"ce_fused": cross_entropy(logits[FUSED], labels) / self._whole}
        diagnostics = {}
        for m, copies in zip(self._modalities, self.copies.values[:, self._rows], strict=True):
            each = cross_entropy(zeroed(model, features, {m}), labels, reduction="none")
            terms[f"alone_{m}"] = (copies * each).mean() / self._whole
            diagnostics[f"copies_{m}"] = copies.mean()
        return StepLosses(terms, logits, diagnostics)

    def _count(self) -> None:
        """Take the mean number of times that a row is met in an epoch; once an epoch, as it looks at all rows."""
        self._whole = 1 + self.copies.values.sum(0).mean()


def values_of(
    model: MultimodalClassifier, features: Heads, labels: Tensor, modalities: tuple[str, ...]
) -> dict[str, Tensor]:
    """Return φ {m: (B,)} of features {m: (B, d)} and labels (B,); they add up to M where the decision is right."""
    return shapley(
        modalities, lambda kept: len(kept) * (zeroed(model, features, kept).argmax(-1) == labels).to(torch.float32)
    )


def copies_of(values: dict[str, Tensor], most: int) -> Tensor:
    """Return how often each modality is shown alone, (M, B), of φ {m: (B,)}.

    Examples
    --------
    >>> copies_of({"a": torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5])}, most=3).tolist()
    [[3.0, 2.0, 1.0, 0.0, 0.0]]
    """
    return (2 * (1 - torch.stack(list(values.values())))).round().clamp(0, most)
