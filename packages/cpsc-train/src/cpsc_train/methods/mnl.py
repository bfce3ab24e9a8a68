"""MNL: the weaker modality of a sample learns from the stronger one which classes are wrong.

Source: Gong et al., *Multimodal Negative Learning*, NeurIPS 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses
from cpsc_train.methods.joint import joint_losses
from cpsc_train.methods.options import NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present


class MNL(Method):
    """Cross-entropies of all heads, and a loss for the weaker of two modalities.

    The margin of modality m is ξ_m = z_m[y] − z_m[j*], where j* ≠ y is the most probable wrong class of the fused
    logits. Where m has both the larger margin and the larger probability of y, the other modality n has the loss (−log
    p_n[y] − w Σ_{j≠y} p_m[j] log p_n[j]) / C, without a gradient through p_m. As in the released code, it is a mean
    over classes. The source has two modalities; with M of them, the loss is summed over the ordered pairs and divided
    by M − 1, and is a mean over the samples that have both modalities of a pair.
    """

    config: MNLConfig
    static_graph = True

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<head>`` and ``negative_<modality>``."""
        out = joint_losses(model, features, labels, present, unimodal=True)
        logits = {head: z.float() for head, z in out.logits.items()}
        wrong = likeliest_wrong(logits[FUSED].detach(), labels)
        terms = {f"negative_{m}": labels.new_zeros((), dtype=torch.float32) for m in features}
        for strong, weak in permutations(features, 2):
            each = negative_loss(logits[strong].detach(), logits[weak], labels, wrong, self.config.weight)
            both = [present[m] for m in (strong, weak) if m in present]
            mean = mean_present(each, torch.stack(both).all(0) if both else None)
            terms[f"negative_{weak}"] = terms[f"negative_{weak}"] + mean / (len(features) - 1)
        return out | StepLosses(terms, {})


@dataclass(frozen=True, kw_only=True)
class MNLConfig(MethodConfig, name="mnl"):
    """Multimodal negative learning: the weaker modality learns wrong classes from the stronger one."""

    source = "Gong et al., Multimodal Negative Learning, NeurIPS 2025"
    method = MNL
    rules = {"weight": NOT_NEGATIVE}
    search = {"weight": Range(0.05, 5.0, log=True)}

    weight: float = 0.7
    """Weight w of the wrong classes."""


def likeliest_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the class (B,) with the largest of logits (B, C) besides the label (B,).

    Examples
    --------
    >>> likeliest_wrong(torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), torch.tensor([0, 1])).tolist()
    [2, 0]
    """
    return logits.masked_fill(one_hot(labels, logits.shape[-1]) > 0, -torch.inf).argmax(-1)


def negative_loss(strong: Tensor, weak: Tensor, labels: Tensor, wrong: Tensor, weight: float) -> Tensor:
    """Return the loss (B,) of the weak modality; 0 where `strong` is not the stronger one.

    `strong` and `weak` are logits (B, C), `labels` and `wrong` classes (B,).
    """
    true = one_hot(labels, weak.shape[-1]).to(weak.dtype)

    def of(values: Tensor, classes: Tensor) -> Tensor:
        return values.gather(1, classes[:, None])[:, 0]

    p, logs = strong.softmax(-1), weak.log_softmax(-1)
    margins = [of(z, labels) - of(z, wrong) for z in (strong, weak)]
    stronger = (margins[0] > margins[1]) & (of(p, labels) > of(logs, labels).exp())
    loss = -((true + weight * (1 - true) * p) * logs).mean(-1)
    return torch.where(stronger, loss, torch.zeros_like(loss))
