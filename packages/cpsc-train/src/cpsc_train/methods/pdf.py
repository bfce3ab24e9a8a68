"""PDF: logits weighted by the predicted probability of the true class under each modality and under the others.

Source: Cao et al., *Predictive Dynamic Fusion*, ICML 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, logsigmoid

from cpsc_train.methods.base import Heads, Method, StepLosses, true_probability
from cpsc_train.methods.options import MethodConfig
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present


class PDF(Method):
    """Cross-entropies of all heads, and the absolute error of t_m, the predicted probability of the true class.

    t_m is learned on the detached features of modality m. Fusion weights, without gradient, are a softmax over
    modalities of t_m + h_m, where h_m is the others' fraction of Σ_j log t_j. At inference both are multiplied by the
    relative calibration: the distance of softmax z_m from uniform, over the largest of all modalities.
    """

    config: PDFConfig

    def __init__(self, config: PDFConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        dim = model.dim
        self.regressors = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Linear(dim, 1)) for m in modalities}
        )

    def losses(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
        present: Present = COMPLETE,
    ) -> StepLosses:
        """Return ``ce_<head>`` and ``confidence_<modality>``."""
        unimodal = {m: model.heads[m](h) for m, h in features.items()}
        raw = self._confidences(features)
        logits = unimodal | {FUSED: _weighted(unimodal, shared_confidence(raw).detach())}
        terms = {f"ce_{head}": cross_entropy(z, labels) for head, z in logits.items()}
        for (m, z), t in zip(unimodal.items(), raw, strict=True):
            terms[f"confidence_{m}"] = l1_loss(t.sigmoid(), true_probability(z, labels).detach())
        return StepLosses(terms, logits)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Heads | None, present: Present = COMPLETE
    ) -> Heads:
        """Return logits, and their sum weighted by calibrated confidence."""
        unimodal = {m: model.heads[m](h) for m, h in features.items()}
        confidence = shared_confidence(self._confidences(features)) * relative_calibration(unimodal)
        return unimodal | {FUSED: _weighted(unimodal, confidence)}

    def _confidences(self, features: Heads) -> Tensor:
        """Return t before the sigmoid, (M, B)."""
        return torch.stack([self.regressors[m](h.detach())[:, 0] for m, h in features.items()]).float()


@dataclass(frozen=True, kw_only=True)
class PDFConfig(MethodConfig, name="pdf"):
    """Predictive dynamic fusion: logits weighted by predicted confidence; the model's fusion is unused."""

    source = "Cao et al., Predictive Dynamic Fusion, ICML 2024"
    method = PDF


def shared_confidence(raw: Tensor) -> Tensor:
    """Return t_m + h_m (M, B) of t before the sigmoid (M, B); one modality alone has no others, and h = 0.

    Examples
    --------
    >>> t = torch.tensor([[0.5], [0.25]])
    >>> shared = shared_confidence(t.logit())  # log ¼ is two thirds of log ½ + log ¼
    >>> torch.allclose(shared, torch.tensor([[1 / 2 + 2 / 3], [1 / 4 + 1 / 3]]))
    True
    """
    logs = logsigmoid(raw)
    total = logs.sum(0)
    others = torch.where(total < 0, (total - logs) / total.clamp(max=-torch.finfo(raw.dtype).tiny), 1 - 1 / len(raw))
    return raw.sigmoid() + others


def relative_calibration(logits: Heads) -> Tensor:
    """Return in [0, 1] (M, B), of logits {m: (B, C)}: the mean of |p − 1/C| over the largest of all modalities."""
    far = torch.stack([(z.float().softmax(-1) - 1 / z.shape[-1]).abs().mean(-1) for z in logits.values()])
    largest = far.max(0).values
    return torch.where(largest > 0, far / largest.clamp(min=torch.finfo(far.dtype).tiny), 1.0)


def _weighted(logits: Heads, confidence: Tensor) -> Tensor:
    return (confidence.softmax(0)[..., None] * torch.stack(list(logits.values()))).sum(0)
