"""PDF: logits weighted by the predicted probability of the true class under each modality and under the others.

Source: Cao et al., *Predictive Dynamic Fusion*, ICML 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, logsigmoid

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy, true_probability
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present, softmax_present, stacked


class PDF(Method):
    """Cross-entropies of all heads, and the absolute error of t_m, the predicted probability of the true class.

    t_m is learned on the detached features of modality m. Fusion weights, without gradient, are a softmax over
    modalities of t_m + h_m, where h_m is the others' fraction of Σ_j log t_j. At inference both are multiplied by the
    relative calibration: the distance of softmax z_m from uniform, over the largest of all modalities.
    """

    config: PDFConfig
    static_graph = True

    def __init__(self, config: PDFConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        dim = model.dim
        self.regressors = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Linear(dim, 1)) for m in modalities}
        )

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<head>`` and ``confidence_<modality>``."""
        unimodal = model.unimodal(features, present)
        raw = self._confidences(features)
        mask = stacked(unimodal, present, labels)
        logits = unimodal | {FUSED: _weighted(unimodal, shared_confidence(raw, mask).detach(), mask)}
        weight = self.config.unimodal
        terms = {f"ce_{m}": weight * head_cross_entropy(z, labels, present.get(m)) for m, z in unimodal.items()}
        terms[f"ce_{FUSED}"] = cross_entropy(logits[FUSED], labels)
        for (m, z), t in zip(unimodal.items(), raw, strict=True):
            error = l1_loss(t.sigmoid(), true_probability(z, labels).detach(), reduction="none")
            terms[f"confidence_{m}"] = mean_present(error, present.get(m))
        return StepLosses(terms, logits)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits, and their sum weighted by calibrated confidence."""
        unimodal = model.unimodal(features, present)
        mask = stacked(unimodal, present, next(iter(unimodal.values())))
        confidence = shared_confidence(self._confidences(features), mask) * relative_calibration(unimodal)
        return unimodal | {FUSED: _weighted(unimodal, confidence, mask)}

    def _confidences(self, features: Heads) -> Tensor:
        return torch.stack([self.regressors[m](h.detach())[:, 0] for m, h in features.items()]).float()


@dataclass(frozen=True, kw_only=True)
class PDFConfig(MethodConfig, name="pdf"):
    """Predictive dynamic fusion: logits weighted by predicted confidence; the model's fusion is unused."""

    source = "Cao et al., Predictive Dynamic Fusion, ICML 2024"
    method = PDF
    rules = {"unimodal": NOT_NEGATIVE}
    search = {"unimodal": Range(0.25, 4.0, log=True)}

    unimodal: float = 1.0
    """Weight of the cross-entropy of each modality."""


def shared_confidence(raw: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return t_m + h_m (M, B) of t before the sigmoid (M, B); one modality alone has no others, and h = 0.

    Modalities that a sample lacks by `mask` (M, B) are not among the others.

    Examples
    --------
    >>> t = torch.tensor([[0.5], [0.25]])
    >>> shared = shared_confidence(t.logit())  # log ¼ is two thirds of log ½ + log ¼
    >>> torch.allclose(shared, torch.tensor([[1 / 2 + 2 / 3], [1 / 4 + 1 / 3]]))
    True
    """
    logs = logsigmoid(raw) if mask is None else torch.where(mask, logsigmoid(raw), 0.0)
    total = logs.sum(0)
    others = torch.where(total < 0, (total - logs) / total.clamp(max=-torch.finfo(raw.dtype).tiny), 1 - 1 / len(raw))
    return raw.sigmoid() + others


def relative_calibration(logits: Heads) -> Tensor:
    """Return in [0, 1] (M, B), of logits {m: (B, C)}: the mean of |p − 1/C| over the largest of all modalities."""
    far = torch.stack([(z.float().softmax(-1) - 1 / z.shape[-1]).abs().mean(-1) for z in logits.values()])
    largest = far.max(0).values
    return torch.where(largest > 0, far / largest.clamp(min=torch.finfo(far.dtype).tiny), 1.0)


def _weighted(logits: Heads, confidence: Tensor, mask: Tensor | None) -> Tensor:
    return (softmax_present(confidence, mask)[..., None] * torch.stack(list(logits.values()))).sum(0)
