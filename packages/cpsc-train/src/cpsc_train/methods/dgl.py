"""DGL: encoders learn from unimodal losses alone, and the fusion from the fused loss on detached features.

Source: Wei et al., *Boosting Multimodal Learning via Disentangled Gradient Learning*, ICCV 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import POSITIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present


class DGL(Method):
    """α Σ_m CE(z_m) + CE(fused), where the fused logits are computed from features without a gradient.

    The head of each modality learns from its own loss; with late fusion, whose only parameters are the heads, it learns
    from the fused loss too.
    """

    config: DGLConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused`` and ``ce_<modality>``."""
        logits = model.unimodal(features, present)
        terms = {
            f"ce_{m}": self.config.alpha * head_cross_entropy(z, labels, present.get(m)) for m, z in logits.items()
        }
        fused = model.classify({m: h.detach() for m, h in features.items()}, present)[FUSED]
        return StepLosses({"ce_fused": cross_entropy(fused, labels)} | terms, logits | {FUSED: fused})


@dataclass(frozen=True, kw_only=True)
class DGLConfig(MethodConfig, name="dgl"):
    """Disentangled gradients: unimodal losses for the encoders, the fused loss for the fusion."""

    source = "Wei et al., Boosting Multimodal Learning via Disentangled Gradient Learning, ICCV 2025"
    method = DGL
    rules = {"alpha": POSITIVE}
    search = {"alpha": Range(0.25, 8.0, log=True)}

    alpha: float = 4.0
    """Weight α of the unimodal cross-entropies."""
