"""Joint training by cross-entropy, the baseline, with or without a term for each modality."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import Heads, Method, StepLosses
from cpsc_train.methods.options import MethodConfig
from cpsc_train.models import FUSED, MultimodalClassifier


def joint_losses(model: MultimodalClassifier, features: Heads, labels: Tensor, *, unimodal: bool) -> StepLosses:
    """Return ``ce_fused`` and, if `unimodal`, ``ce_<modality>``."""
    logits = model.classify(features)
    heads = list(logits) if unimodal else [FUSED]
    return StepLosses({f"ce_{head}": cross_entropy(logits[head], labels) for head in heads}, logits)


class Joint(Method):
    """Cross-entropy of the fused logits."""

    unimodal = False

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return the terms of `joint_losses`."""
        return joint_losses(model, features, labels, unimodal=self.unimodal)


class JointUnimodal(Joint):
    """Cross-entropies of the fused logits and of those of each modality."""

    unimodal = True


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
