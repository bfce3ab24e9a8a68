"""Joint training by cross-entropy, the baseline, with or without a term for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.methods.rows import RowWeights
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present

NO_WEIGHTS: Mapping[str, Tensor] = MappingProxyType({})


def joint_losses(
    model: MultimodalClassifier,
    features: Heads,
    labels: Tensor,
    present: Present = COMPLETE,
    *,
    unimodal: bool,
    weights: Mapping[str, Tensor] = NO_WEIGHTS,
) -> StepLosses:
    """Return ``ce_fused`` and, if `unimodal`, ``ce_<modality>``, over the samples that have the modality.

    `weights` (B,) by head multiply the cross-entropy of each sample; those of a head that is not listed are 1.
    """
    logits = model.classify(features, present)
    heads = list(logits) if unimodal else [FUSED]
    terms = {
        f"ce_{head}": head_cross_entropy(logits[head], labels, present.get(head), weights.get(head)) for head in heads
    }
    return StepLosses(terms, logits)


class Joint(Method):
    """Cross-entropy of the fused logits."""

    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused``."""
        return joint_losses(model, features, labels, present, unimodal=False)


class JointUnimodal(Method):
    """Cross-entropies of the fused logits and, with a weight, of those of each modality."""

    config: JointUnimodalConfig
    static_graph = True

    def __init__(self, config: JointUnimodalConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.weighting: RowWeights | None = None

    def on_fit_start(self, rows: int) -> None:
        """Read the weights of the training rows, if there is a file of them."""
        if self.config.weights is not None:
            self.weighting = RowWeights.read(self.config.weights, self.row_ids, self.modalities)

    def row_weights(self) -> Heads:
        """Return the weights of the training rows."""
        return {} if self.weighting is None else self.weighting.weights()

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return the terms of `joint_losses`, those of modalities times the weight."""
        of_rows = NO_WEIGHTS if self.weighting is None else self.weighting.weights(self.rows)
        out = joint_losses(model, features, labels, present, unimodal=True, weights=of_rows)
        weight = self.config.weight
        terms = {name: term if name == f"ce_{FUSED}" else weight * term for name, term in out.terms.items()}
        return StepLosses(terms, out.logits)


@dataclass(frozen=True, kw_only=True)
class JointConfig(MethodConfig, name="joint"):
    """Cross-entropy of the fused logits alone."""

    source = "baseline"
    method = Joint


@dataclass(frozen=True, kw_only=True)
class JointUnimodalConfig(MethodConfig, name="joint-unimodal"):
    """Cross-entropy of the fused logits, plus that of each modality."""

    source = "baseline"
    method = JointUnimodal
    rules = {"weight": NOT_NEGATIVE}
    search = {"weight": Range(0.25, 4.0, log=True)}

    weight: float = 1.0
    """Weight of the cross-entropy of each modality."""
    weights: str | None = None
    """A .csv or .tsv file with weights of training rows by modality: columns ``id``, ``weight_MODALITY`` and, for the
    fused cross-entropy, optionally ``weight_fused``; each is divided by its mean. ``rows.csv`` of a run is one."""
