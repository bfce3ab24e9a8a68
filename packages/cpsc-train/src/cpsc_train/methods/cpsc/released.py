"""CPSC as trained by its authors' released code, for comparison; recipes have its values for each data set."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpsc_gsc import collaborative_reliability
from cpsc_rsc import MultimodalSelfCalibration, component_reliability, divergence_loss, mix_residual, recompose, top_k
from cpsc_train.errors import UserError
from cpsc_train.methods.base import Heads, Quantiles, StepLosses, head_cross_entropy
from cpsc_train.methods.cpsc.literal import GradientScale
from cpsc_train.methods.cpsc.method import CPSC, CPSCConfig, Parts, without_absent
from cpsc_train.methods.lfm import disagreement
from cpsc_train.methods.options import NOT_NEGATIVE
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present, only_present, stacked
from cpsc_train.models.fusion import fuse


class ReleasedCPSC(CPSC):
    """The step of the released code, warm-up included: L_ib and the alignment are in the loss from the first epoch.

    L = w_f CE(fused) + w_u Σ_m CE(m) + w_a JS′(z_a, z_b) + w_ib Σ_m L_ib, with JS′ of ``js-reversed``. After warm-up a
    copy of the heads, made after every epoch, rates components by 1/(rank + 1); the K best are averaged, ties by index.
    The fused decision is rated on the averaged probabilities of the copies, under the threshold of one modality; its
    mean over the batch, ρ, scales the whole gradient of every encoder by aρ + b.

    Not reproduced: CREMA-D's visual logits from audio features, the width of the generator on MVSA (1,024 and 4,096),
    and gradients rescaled at every accumulated batch.
    """

    config: ReleasedConfig

    def __init__(self, config: ReleasedConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self.frozen_heads = deepcopy(model.heads).requires_grad_(False)
        self._judge = config.judge if config.judge in modalities else modalities[0]

    reliability = "reciprocal"

    def build_rsc(self, dim: int, **options: Any) -> MultimodalSelfCalibration:
        """Return the RSC of all modalities, with generators of hidden width 2d."""
        rsc = super().build_rsc(
            dim, mixing=self.config.mixing, decomposition="mlp", divergence="js-reversed", **options
        )
        for m in self.modalities:
            wide = [nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, self.config.components * dim)]
            rsc[m].decomposition.net = nn.Sequential(*wide)
        return rsc

    def raters(self, model: MultimodalClassifier) -> nn.ModuleDict:
        """Return the frozen heads."""
        return self.frozen_heads

    def on_refresh(self, model: MultimodalClassifier) -> None:
        """Copy the current heads to the frozen ones."""
        self.frozen_heads.load_state_dict(model.heads.state_dict())

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_<head>``, ``alignment`` unless its weight is 0, and ``div_<modality>``."""
        config, scale = self.config, GradientScale(features)
        if qhat is not None:
            features = scale.features
        bottleneck, components = self._generate(features, present)
        represented, distributions = features, {}
        if qhat is not None and components:
            represented, rated = self._selected(components, labels, qhat, present)
            distributions = {"component_reliability": without_absent(rated, present)}
        logits = model.classify(represented, present)
        unimodal = {m: logits[m] for m in features}
        terms = {"ce_fused": config.fused * cross_entropy(logits[FUSED], labels)}
        terms |= {
            f"ce_{m}": config.unimodal * head_cross_entropy(z, labels, present.get(m)) for m, z in unimodal.items()
        }
        if config.alignment:
            mask = stacked(unimodal, present, labels)
            pairs = None if mask is None else mask.sum(0) >= 2
            apart = disagreement(unimodal, mask, kind="js-reversed")
            terms["alignment"] = config.alignment * mean_present(apart, pairs)
        terms |= {f"div_{m}": config.bottleneck * loss for m, loss in bottleneck.items()}
        if qhat is not None:
            rho = self._agreement(model, represented, logits[FUSED], qhat, present)
            scale.weights = dict.fromkeys(features, self._a * rho.mean() + self._b)
            distributions["reliability"] = dict.fromkeys(features, rho)
        return StepLosses(terms, logits, {}, distributions)

    def _generate(self, features: Heads, present: Present) -> tuple[Heads, Heads]:
        """Return by modality L_ib and the mixed components (B, n, d); nothing without RSC."""
        bottleneck, components = {}, {}
        if self.rsc is None:
            return {}, {}
        for m, h in features.items():
            raw = self.rsc[m].decomposition.net(h).unflatten(-1, (self.config.components, -1))
            components[m] = mix_residual(h, raw, residual=self.config.residual, mixing=self.config.mixing)
            matched = self.config.compared == "matched"
            compared = mix_residual(h, raw, residual=1.0) if matched else raw
            bottleneck[m] = self._bottleneck(h, compared, present.get(m))
        return bottleneck, components

    def _bottleneck(self, h: Tensor, components: Tensor, present: Tensor | None) -> Tensor:
        """Return L_ib, 0-d: consistency, and diversity in one of its forms; over samples that are `present` (B,)."""
        config, loss = self.config, partial(divergence_loss, h, components, kind="js-reversed", present=present)
        if config.diversity_form == "difference":
            return loss(consistency=config.consistency, diversity=config.diversity)
        near = loss(consistency=config.consistency, diversity=0.0)
        apart = -loss(consistency=0.0, diversity=1.0)
        return near + config.diversity * (1 - apart.sigmoid())

    def _selected(self, components: Heads, labels: Tensor, qhat: Heads, present: Present) -> tuple[Heads, Heads]:
        """Return by modality the mean of the K most reliable components (B, d), and the reliability of all (B, n)."""
        represented, rated = {}, {}
        for m, c in components.items():
            rated[m], _ = component_reliability(
                c, labels, head=self.frozen_heads[m], qhat=qhat[m], kind="reciprocal", check=False
            )
            best = top_k(rated[m], torch.zeros_like(rated[m]), self.config.top_k)
            represented[m] = only_present(recompose(c, best, check=False), present.get(m))
        return represented, rated

    def _agreement(
        self, model: MultimodalClassifier, represented: Heads, fused: Tensor, qhat: Heads, present: Present
    ) -> Tensor:
        """Return the reliability (B,) of the fused decision under the fusion of the frozen heads."""
        with torch.no_grad():
            frozen = {m: only_present(self.frozen_heads[m](h.detach()), present.get(m)) for m, h in represented.items()}
            rated = {self._judge: fuse(model.fusion, represented, frozen, present)}
            rho = collaborative_reliability(rated, fused_logits=fused, qhat=qhat, kind="reciprocal", check=False)
            return rho[self._judge]


@dataclass(frozen=True, kw_only=True)
class ReleasedConfig(CPSCConfig, name="cpsc-released"):
    """CPSC as trained by its authors' released code; for comparison."""

    method = ReleasedCPSC
    search = {}
    rules = CPSCConfig.rules | dict.fromkeys(("fused", "unimodal", "alignment", "bottleneck"), NOT_NEGATIVE)

    parts: Parts = "both"
    """Parts of the paper in use."""
    residual: float = 0.05
    """Weight γ of the component in the mix with the feature, at the feature's length."""
    mixing: Literal["convex", "additive"] = "convex"
    """``convex``: c ← (1−γ)h + γc; ``additive``: c ← h + γc."""
    fused: float = 1.0
    """Weight of the cross-entropy of the fused logits."""
    unimodal: float = 1.0
    """Weight of the cross-entropy of each modality."""
    alignment: float = 0.0
    """Weight of the reversed Jensen-Shannon divergence between the modalities' logits, the alignment of ``lfm``."""
    bottleneck: float = 0.1
    """Weight of L_ib, the consistency and diversity of the components."""
    diversity_form: Literal["difference", "sigmoid"] = "difference"
    """Diversity in L_ib: −λ2 JS′, or +λ2 (1 − sigmoid(JS′))."""
    compared: Literal["raw", "matched"] = "raw"
    """Components in L_ib: the generator's outputs, or those at the length of the feature; never the mixed ones."""
    judge: str = ""
    """Modality whose threshold rates the fused decision; the first if it is empty or not in use."""
    inference: Literal["features", "mean", "collaborative"] = "features"
    """With RSC, representation of a modality without a label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.trust, self.heads_learn_on) != ("all", "recomposed"):
            raise UserError("method.trust and method.heads_learn_on are not options of cpsc-released")

    @property
    def needs_full_refresh(self) -> bool:
        """True: heads are frozen."""
        return True
