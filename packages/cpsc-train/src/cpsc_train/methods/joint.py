"""Joint training by cross-entropy: the plain baseline, with or without a term for each modality."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import Heads, Method, StepLosses
from cpsc_train.methods.options import MethodConfig
from cpsc_train.models import FUSED, MultimodalClassifier


class Joint(Method):
    """Cross-entropy of the fused logits and, if asked, of each modality's.

    Parameters
    ----------
    unimodal
        Whether the unimodal cross-entropies are added.
    """

    def __init__(self, *, unimodal: bool) -> None:
        super().__init__()
        self.unimodal = unimodal

    def losses(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        logits = model.classify(features)
        heads = list(logits) if self.unimodal else [FUSED]
        return StepLosses({f"ce_{head}": cross_entropy(logits[head], labels) for head in heads}, logits)


@dataclass(frozen=True, kw_only=True)
class JointConfig(MethodConfig, name="joint"):
    """Cross-entropy of the fused logits alone."""

    source = "the plain baseline"

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return Joint(unimodal=False)


@dataclass(frozen=True, kw_only=True)
class JointUnimodalConfig(MethodConfig, name="joint-unimodal"):
    """Cross-entropy of the fused logits plus one of each modality's."""

    source = "the plain baseline"

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        return Joint(unimodal=True)
