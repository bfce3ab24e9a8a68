"""Joint training by cross-entropy, the baseline, with or without a term for each modality."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cpsc_train.methods.base import Heads, Method, StepLosses, head_cross_entropy
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present


def joint_losses(
    model: MultimodalClassifier, features: Heads, labels: Tensor, present: Present = COMPLETE, *, unimodal: bool
) -> StepLosses:
    """Return ``ce_fused`` and, if `unimodal`, ``ce_<modality>``, over the samples that have the modality."""
    logits = model.classify(features, present)
    heads = list(logits) if unimodal else [FUSED]
    terms = {f"ce_{head}": head_cross_entropy(logits[head], labels, present.get(head)) for head in heads}
    return StepLosses(terms, logits)


class Joint(Method):
    """Cross-entropy of the fused logits."""

    unimodal = False

    def losses(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
        present: Present = COMPLETE,
    ) -> StepLosses:
        """Return the terms of `joint_losses`."""
        return joint_losses(model, features, labels, present, unimodal=self.unimodal)


class JointUnimodal(Joint):
    """Cross-entropies of the fused logits and, with a weight, of those of each modality."""

    config: JointUnimodalConfig
    unimodal = True

    def losses(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
        present: Present = COMPLETE,
    ) -> StepLosses:
        """Return the terms of `joint_losses`, those of modalities times the weight."""
        out, weight = super().losses(model, features, labels, qhat, present), self.config.weight
        terms = {name: term if name == f"ce_{FUSED}" else weight * term for name, term in out.terms.items()}
        return StepLosses(terms, out.logits)


@dataclass(frozen=True, kw_only=True)
class JointConfig(MethodConfig, name="joint"):
    """Cross-entropy of the fused logits alone."""

    source = "the plain baseline"
    method = Joint


@dataclass(frozen=True, kw_only=True)
class JointUnimodalConfig(MethodConfig, name="joint-unimodal"):
    """Cross-entropy of the fused logits plus one of each modality's."""

    source = "the plain baseline"
    method = JointUnimodal
    rules = {"weight": NOT_NEGATIVE}
    search = {"weight": Range(0.25, 4.0, log=True)}

    weight: float = 1.0
    """Weight of the cross-entropy of each modality."""
