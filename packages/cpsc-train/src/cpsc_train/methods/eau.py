"""EAU: modalities as normal distributions, fused by their aleatoric uncertainty.

Source: Gao et al., *Embracing Unimodal Aleatoric Uncertainty for Robust Multimodal Fusion*, CVPR 2024, from the
authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from cpsc_train.methods.base import Heads, Method, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present

TEMPERATURE = 0.5
"""Temperature of the contrast."""
MOST = 10.0
"""Bound of |log v|, which keeps exponentials finite; it is not reached in ordinary training."""


@dataclass(frozen=True)
class Normal:
    """Normal distributions of B samples: mean and log v, each (B, D)."""

    mean: Tensor
    log: Tensor

    @property
    def v(self) -> Tensor:
        """The variance by name, which the authors' code also uses as a standard deviation; (B, D)."""
        return self.log.exp()

    def draw(self) -> Tensor:
        """Return μ + v ε, (B, D), with standard normal ε."""
        return self.mean + self.v * torch.randn_like(self.mean)


class EAU(Method):
    """CE(W_c μ) + r [KL + Σ_m KL_m + CE(W_z z)] + x L_x + c L_con, where μ and z belong to the fused distribution.

    As in the authors' code, v = exp ℓ is the variance in KL and in the fusion weights, and a standard deviation in
    draws and in L_x. L_x is the divergence of the first modality of a pair from the second, KL(a ‖ b); the source has
    text and image in this order, and here it is summed over all pairs in the order of the modalities. Parts of that
    code that belong to an extension of the paper are left out. Contrast is among the samples of a process's part of a
    batch.

    Modalities that a sample lacks have no weight in the fusion and no terms. The source has no unimodal logits: here
    the model's heads learn from features without a gradient, so unimodal accuracy is that of the encoders as they are.
    """

    config: EAUConfig
    static_graph = True

    def __init__(self, config: EAUConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        d, latent = model.dim, config.latent
        self.means = nn.ModuleDict({m: nn.Linear(d, latent) for m in modalities})
        self.logs = nn.ModuleDict({m: nn.Linear(d, latent) for m in modalities})
        # The centre of a convolution of width 3 over modalities as channels; there is nothing on its sides.
        self.gate = nn.Linear(len(modalities), len(modalities), bias=False)
        self.mean, self.log = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.classifier, self.of_draws = nn.Linear(latent, model.classes), nn.Linear(latent, model.classes)

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return the terms of the objective, and ``head_<modality>``, which trains heads alone."""
        config = self.config
        each = self._normals(features)
        fused = self._fused(each, present)
        logits = self._logits(model, features, fused, present)
        divergences = [mean_present(divergence(each[m]), present.get(m)) for m in each]
        terms = {
            "ce_fused": cross_entropy(logits[FUSED], labels),
            "ce_draws": config.regularisation * cross_entropy(self.of_draws(fused.draw()), labels),
            "kl": config.regularisation * torch.stack([divergence(fused).mean(), *divergences]).sum(),
            "cross": config.cross * self._cross(each, present),
            "contrast": config.contrast * torch.stack([contrast(n, present.get(m)) for m, n in each.items()]).sum(),
        }
        terms |= {f"head_{m}": head_cross_entropy(logits[m], labels, present.get(m)) for m in features}
        return StepLosses(terms, logits)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return W_c μ of the fused distribution, and the logits of the model's heads."""
        return self._logits(model, features, self._fused(self._normals(features), present), present)

    def _logits(self, model: MultimodalClassifier, features: Heads, fused: Normal, present: Present) -> Heads:
        unimodal = model.unimodal({m: h.detach() for m, h in features.items()}, present)
        return unimodal | {FUSED: self.classifier(fused.mean)}

    def _normals(self, features: Heads) -> dict[str, Normal]:
        return {m: _normal(self.means[m](h), self.logs[m](h)) for m, h in features.items()}

    def _fused(self, each: dict[str, Normal], present: Present) -> Normal:
        """Return the fused distribution; features of a modality that is absent are zeros in the gate."""
        first = next(iter(each.values()))
        here = torch.ones(first.mean.shape[0], dtype=torch.bool, device=first.mean.device)
        given = torch.stack([present.get(m, here) for m in each])
        weighted = dict(zip(each, by_uncertainty(list(each.values()), given), strict=True))
        absent = torch.zeros_like(first.mean)
        parts = torch.stack([weighted.get(m, absent) for m in self.modalities], 1)
        scale = parts.mean(-1)
        joined = (parts * (scale + self.gate(scale))[..., None] + parts).sum(1)
        return _normal(self.mean(joined), self.log(joined))

    def _cross(self, each: dict[str, Normal], present: Present) -> Tensor:
        """Return L_x summed over pairs of modalities, of samples that have both."""
        terms = []
        for a, b in combinations(each, 2):
            both = [present[m] for m in (a, b) if m in present]
            terms.append(mean_present(apart(each[a], each[b]), torch.stack(both).all(0) if both else None))
        return torch.stack(terms).sum() if terms else next(iter(each.values())).mean.new_zeros(())


@dataclass(frozen=True, kw_only=True)
class EAUConfig(MethodConfig, name="eau"):
    """Modalities as normal distributions, fused by aleatoric uncertainty; the model's fusion is unused."""

    source = "Gao et al., Embracing Unimodal Aleatoric Uncertainty for Robust Multimodal Fusion, CVPR 2024"
    method = EAU
    rules = {"latent": COUNT} | dict.fromkeys(("regularisation", "cross", "contrast"), NOT_NEGATIVE)
    search = {
        "regularisation": Range(1e-5, 1e-1, log=True),
        "cross": Range(1e-7, 1e-3, log=True),
        "contrast": Range(1e-5, 1e-1, log=True),
    }

    latent: int = 128
    """Width D of the distributions."""
    regularisation: float = 1e-3
    """Weight of the divergences from the standard normal distribution and of the cross-entropy of draws."""
    cross: float = 1e-5
    """Weight of L_x, between modalities."""
    contrast: float = 1e-3
    """Weight of L_con, between two draws."""


def by_uncertainty(each: Sequence[Normal], given: Tensor) -> Tensor:
    """Return w_m μ_m (M, B, D) with w = softmax over modalities of −v; `given` (M, B) are the modalities of a sample.

    With two modalities, w_a = e^{v_b} / (e^{v_a} + e^{v_b}). A sample without any modality has zeros.
    """
    certain = torch.stack([-one.v for one in each]).masked_fill(~given[..., None], torch.finfo(torch.float32).min)
    weights = certain.softmax(0) * given[..., None]
    return weights * torch.stack([one.mean for one in each])


def divergence(one: Normal) -> Tensor:
    """Return Σ_D ½ (μ² + v − ℓ − 1), (B,)."""
    return 0.5 * (one.mean.square() + one.v - one.log - 1).sum(-1)


def apart(a: Normal, b: Normal) -> Tensor:
    """Return Σ_D [ℓ_b − ℓ_a + (v_a² + (μ_a − μ_b)²) / (2 v_b²) − ½], (B,)."""
    squares = a.v.square() + (a.mean - b.mean).square()
    return (b.log - a.log + squares / (2 * b.v.square()) - 0.5).sum(-1)


def contrast(one: Normal, present: Tensor | None = None) -> Tensor:
    """Return the mean, 0-d, of the contrasts of two draws with each other, of the samples that are `present` (B,).

    With e_ij = exp(cos(z₁ᵢ, z₂ⱼ) / τ), the contrast of z₁ with z₂ is −mean_i log(e_ii / (2 Σ_j e_ij − e_ii)).
    """
    first, second = (normalize(one.draw(), dim=-1) for _ in range(2))
    logs = (first @ second.T).float() / TEMPERATURE
    e = logs.exp()
    if present is not None:
        e = e * (present[:, None] & present[None])
    losses = [(2 * e.sum(axis) - e.diagonal()).clamp(min=1e-12).log() - logs.diagonal() for axis in (1, 0)]
    return mean_present(0.5 * (losses[0] + losses[1]), present)


def _normal(mean: Tensor, log: Tensor) -> Normal:
    return Normal(mean.float(), log.float().clamp(-MOST, MOST))
