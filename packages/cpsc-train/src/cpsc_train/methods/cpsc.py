"""CPSC: conformal predictive self-calibration of representations (RSC) and gradients (GSC).

Source: *Multimodal Learning on Low-Quality Data with Conformal Predictive Self-Calibration*, CVPR 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpsc_gsc import collaborative_reliability, gsc_weights, weighted_cross_entropy
from cpsc_rsc import MultimodalSelfCalibration, RSCOutput, represent
from cpsc_train.errors import UserError
from cpsc_train.methods.base import Heads, Method, PartFeatures, StepLosses
from cpsc_train.methods.joint import Joint
from cpsc_train.methods.judges import Ensemble, Judge, MonteCarloDropout, Temperature
from cpsc_train.methods.options import MethodConfig, Range
from cpsc_train.methods.trust import RowTrust
from cpsc_train.models import FUSED, MultimodalClassifier


@dataclass(frozen=True, kw_only=True)
class CPSCConfig(MethodConfig, name="cpsc"):
    """Conformal predictive self-calibration."""

    source = "Multimodal Learning on Low-Quality Data with Conformal Predictive Self-Calibration, CVPR 2026"
    # Of nine options these two move the accuracy by more than a seed does: docs/beyond/knobs.md.
    search = MappingProxyType({"residual": Range(0.05, 0.9), "heads_learn_on": ("recomposed", "features")})

    warmup: int = 5
    """Epochs t0 of cross-entropy (fused and unimodal) before the conformal predictor is built."""
    rsc: bool = True
    """Whether representations are self-calibrated; without it the heads see the features as they are."""
    gsc: bool = True
    """Whether unimodal gradients are weighted by reliability; without it every weight is one."""
    components: int = 10
    """Components n a feature is decomposed into."""
    top_k: int = 3
    """Most reliable components K that are recomposed."""
    residual: float = 0.3
    """Share γ of the component in c ← (1−γ)h + γc; 1 is the literal method, without the feature."""
    match_magnitude: bool = True
    """Whether components are given the norm of the feature before they are mixed with it."""
    mixing: Literal["convex", "additive"] = "convex"
    """``convex`` as above, or ``additive``: c ← h + γc."""
    decomposition: Literal["linear", "mlp"] = "linear"
    """One layer with ReLU on the components, or the two layers of the released code."""
    reliability: Literal["normalized", "reciprocal"] = "normalized"
    """1 − rank / set size, or 1 / (rank + 1) of the released code; 0 outside the set."""
    divergence: Literal["kl", "js", "js-reversed"] = "js"
    """Divergence between distributions over the feature axis: ``kl`` of the source, whose push apart has no bound and
    ends by destroying the features; the bounded ``js``; or ``js-reversed`` of the released code, unbounded too."""
    consistency: float = 0.8
    """Weight λ1 of the pull of the components towards the feature."""
    diversity: float = 0.2
    """Weight λ2 of the push of the components apart."""
    a: float = 0.6
    """Slope of the gradient weight w = aρ + b."""
    b: float = 0.6
    """Offset of the gradient weight."""
    weigh: Literal["samples", "encoders"] = "samples"
    """What w is applied to: each sample's unimodal loss, or, with the mean ρ of the batch, the whole gradient that
    reaches a modality's encoder, as in the released code."""
    trust: Literal["all", "input", "label", "reliability"] = "all"
    """Which training rows are believed, for data with bad rows. ``all``: all alike; ``label``: not those whose label
    conforms less than those of the calibration rows, but for as many as the fused head gets wrong there, found anew
    each epoch; ``input``: losses of a modality are weighted by the conformal p-value of its features; ``reliability``:
    by ρ, which needs no label."""
    heads_learn_on: Literal["recomposed", "features"] = "recomposed"
    """What the unimodal cross-entropies are taken on."""
    calibrate_on: Literal["features", "components", "recomposed"] = "features"
    """With RSC, what the in-loop conformal predictor of a modality scores."""
    judge: Literal["conformal", "temperature", "mc-dropout", "ensemble"] = "conformal"
    """Where reliability comes from: the rank in a conformal prediction set, or the probability that an approximation
    gives the label: the head at a fitted temperature, its mean over dropout masks, or that of an ensemble of heads."""
    dropout: float = 0.2
    """Share that ``mc-dropout`` drops of what a head is given."""
    draws: int = 10
    """Masks of ``mc-dropout``."""
    experts: int = 5
    """Heads of ``ensemble``."""
    inference: Literal["features", "mean", "collaborative"] = "collaborative"
    """With RSC, what stands for a modality when there is no label: its feature, the mean of its components, or the
    components that agree with the fused decision (which changes the fused decision alone)."""

    def __post_init__(self) -> None:
        if self.warmup < 1:
            raise UserError(f"method.warmup must be at least 1, got {self.warmup}")
        if self.components < 2:
            raise UserError(f"method.components must be at least 2, got {self.components}")
        if not 1 <= self.top_k <= self.components:
            raise UserError(f"method.top_k must lie in 1…components = {self.components}, got {self.top_k}")
        if not 0 < self.residual <= 1:
            raise UserError(f"method.residual must lie in (0, 1], got {self.residual}")
        if not 0 < self.dropout < 1:
            raise UserError(f"method.dropout must lie in (0, 1), got {self.dropout}")
        for name in ("draws", "experts"):
            if getattr(self, name) < 1:
                raise UserError(f"method.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("consistency", "diversity", "a", "b"):
            if getattr(self, name) < 0:
                raise UserError(f"method.{name} must not be negative, got {getattr(self, name)}")

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method."""
        if frozen_copy and self.judge != "conformal":
            raise UserError(f"conformal.frozen_copy needs method.judge = conformal, got {self.judge}")
        copies = deepcopy(model.heads).requires_grad_(False) if frozen_copy else None
        return CPSC(self, model.dim, modalities, copies=copies, judges=self._judges(model, modalities))

    def _judges(self, model: MultimodalClassifier, modalities: tuple[str, ...]) -> dict[str, Judge]:
        if self.judge == "conformal":
            return {}
        if self.judge == "temperature":
            return {m: Temperature() for m in modalities}
        if self.judge == "mc-dropout":
            return {m: MonteCarloDropout(model.dim, rate=self.dropout, draws=self.draws) for m in modalities}
        return {m: Ensemble(model.dim, model.classes, members=self.experts) for m in modalities}


class CPSC(Method):
    """Per modality: decompose, score components, recompose the reliable ones; then weight its loss by its reliability.

    Parameters
    ----------
    config
        Options.
    dim
        Feature width d.
    modalities
        Their names.
    copies
        Heads that judge reliability and are brought up to date at each full refresh; the model's own if absent.
    judges
        By modality, what judges reliability in place of a conformal predictor; empty for none.
    """

    def __init__(
        self,
        config: CPSCConfig,
        dim: int,
        modalities: tuple[str, ...],
        *,
        copies: nn.ModuleDict | None = None,
        judges: Mapping[str, Judge] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.config = config
        self.warmup = config.warmup
        self._plain = Joint(unimodal=True)
        self._a, self._b = (config.a, config.b) if config.gsc else (0.0, 1.0)
        self.rsc = (
            MultimodalSelfCalibration(
                dict.fromkeys(modalities, dim),
                components=config.components,
                top_k=config.top_k,
                residual=config.residual,
                mixing=config.mixing,
                decomposition=config.decomposition,
                reliability="probability" if judges else config.reliability,
                match_magnitude=config.match_magnitude,
                divergence=config.divergence,
                consistency=config.consistency,
                diversity=config.diversity,
            )
            if config.rsc
            else None
        )
        self.copies = copies
        self.judges = nn.ModuleDict(judges)
        # Dropout and an ensemble are never calibrated, so that they are spared the predictor in the loop.
        self.conformal = config.judge in ("conformal", "temperature")
        self._warming_up = False
        self._modalities = modalities
        self._rows: Tensor | None = None
        self.trust: RowTrust | None = None

    def on_fit_start(self, rows: int) -> None:
        """Make room for a weight of every training row, where there is to be one."""
        if self.config.trust in ("input", "label"):
            self.trust = RowTrust(self.config.trust, self._modalities, rows)

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Ask for training and calibration rows after warm-up, where rows are weighted by p-values."""
        return ("train", "calibration") if self.trust is not None and epoch >= self.warmup else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Weigh the training rows anew."""
        if self.trust is not None:
            self.trust.on_features(model, parts["train"], parts["calibration"])

    def on_batch_start(self, rows: Tensor) -> None:
        """Note which training rows come next."""
        self._rows = rows

    def row_weights(self) -> Heads:
        """Return the weights of the training rows as they were found last."""
        return {} if self.trust is None else self.trust.weights()

    def on_epoch_start(self, epoch: int, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Note whether warm-up is over."""
        self._warming_up = epoch < self.warmup

    def on_refresh(self, model: MultimodalClassifier) -> None:
        """Copy the heads, where reliability is judged by a copy."""
        if self.copies is not None:
            self.copies.load_state_dict(model.heads.state_dict())

    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return ``ce_fused``, ``gsc`` and ``div_<modality>``; cross-entropies alone during warm-up."""
        qhat = self._thresholds(features, qhat)
        if qhat is None:
            plain = self._plain.losses(model, {m: self._trained_on(m, h) for m, h in features.items()}, labels, qhat)
            return plain | StepLosses(self._learned(features, labels), {})
        scale = _GradientScale(features) if self.config.weigh == "encoders" else None
        if scale is not None:
            features = scale.features
        calibrated = self._calibrate(model, features, labels, qhat)
        represented = features | {m: out.recomposed for m, out in calibrated.items()}
        logits = model.classify({m: self._trained_on(m, h) for m, h in represented.items()})
        unimodal = {m: logits[m] for m in features}
        judged, kind = unimodal, self.config.reliability
        if self.copies is not None or self.judges:
            heads = self._heads(model)
            judged = {m: heads[m](h) for m, h in represented.items()}
        reliability = collaborative_reliability(
            judged, logits[FUSED], qhat=qhat, kind="probability" if self.judges else kind, check=False
        )
        if self.config.heads_learn_on == "features":
            unimodal = {m: model.heads[m](self._trained_on(m, h)) for m, h in features.items()}
        weights = {m: gsc_weights(rho, a=self._a, b=self._b) for m, rho in reliability.items()}
        if scale is not None:
            scale.weights = {m: w.mean() for m, w in weights.items()}
            weights = {m: torch.ones_like(w) for m, w in weights.items()}
        believed = self._believed(reliability)
        if believed is None:
            fused = cross_entropy(logits[FUSED], labels)
        else:
            fused = (believed[FUSED] * cross_entropy(logits[FUSED], labels, reduction="none")).mean()
            weights = {m: w * believed[m] for m, w in weights.items()}
        terms = {"ce_fused": fused} | {f"div_{m}": out.divergence for m, out in calibrated.items()}
        terms["gsc"] = weighted_cross_entropy(unimodal, labels, weights, check=False)
        terms |= self._learned(represented, labels)
        distributions = {"reliability": reliability}
        if calibrated:
            distributions["component_reliability"] = {m: out.reliability for m, out in calibrated.items()}
        left_out = {} if believed is None else {"left_out": (believed[FUSED] == 0).double().mean()}
        return StepLosses(terms, logits, left_out, distributions)

    def predict(self, model: MultimodalClassifier, features: Heads, qhat: Heads | None) -> Heads:
        """Classify the representation that ``inference`` says; the features during warm-up and without RSC."""
        logits = model.classify(features)
        qhat = self._thresholds(features, qhat)
        if qhat is None or self.rsc is None or self.config.inference == "features":
            return logits
        represented = model.classify(
            represent(
                self.rsc,
                features,
                mode=self.config.inference,
                predict=lambda _: logits[FUSED],
                heads=self._heads(model) if self.judges else model.heads,
                qhat={m: qhat[m] for m in features},
                check=False,
            )
        )
        # The collaborative label confirms itself, so what it selects says nothing of a modality by itself.
        return logits | {FUSED: represented[FUSED]} if self.config.inference == "collaborative" else represented

    def calibration_logits(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None
    ) -> Heads:
        """Return logits of what ``calibrate_on`` says for each modality, and of the features for ``fused``."""
        logits = {head: z[:, None] for head, z in model.classify(features).items()}
        for m in self.judges.keys() & logits.keys():
            self._judge(m).calibrate(logits[m][:, 0], labels)
        if self.rsc is None or self.config.calibrate_on == "features":
            return logits
        if self.config.calibrate_on == "components":
            return logits | {m: model.heads[m](self.rsc[m].components(h)) for m, h in features.items()}
        if qhat is None:  # before the first quantile every class is in every set, and rank alone selects
            qhat = {m: torch.full((), torch.inf, device=labels.device) for m in features}
        calibrated = self._calibrate(model, features, labels, qhat)
        return logits | {m: model.heads[m](out.recomposed)[:, None] for m, out in calibrated.items()}

    def _calibrate(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads
    ) -> dict[str, RSCOutput]:
        if self.rsc is None:
            return {}
        own = {m: qhat[m] for m in features}
        calibrated: dict[str, RSCOutput] = self.rsc(features, labels, heads=self._heads(model), qhat=own, check=False)
        return calibrated

    def _heads(self, model: MultimodalClassifier) -> Mapping[str, Callable[[Tensor], Tensor]] | nn.ModuleDict:
        """Return what reliability is judged by."""
        if self.judges:
            return {m: partial(self._judge(m), model.heads[m]) for m in self.judges}
        return model.heads if self.copies is None else self.copies

    def _judge(self, modality: str) -> Judge:
        return cast("Judge", self.judges[modality])

    def _believed(self, reliability: Heads) -> Heads | None:
        """Return the weight of each row of the batch by head, (B,) with a mean of about 1; none where all are alike."""
        if self.trust is not None and self._rows is not None:
            return self.trust.weights(self._rows)
        if self.config.trust != "reliability":
            return None
        of = reliability | {FUSED: torch.stack(list(reliability.values())).mean(0)}
        return {head: rho / rho.mean().clamp_min(1e-6) for head, rho in of.items()}

    def _learned(self, features: Heads, labels: Tensor) -> Heads:
        learned = {m: self._judge(m).loss(features[m], labels) for m in self.judges}
        return {f"judge_{m}": loss for m, loss in learned.items() if loss is not None}

    def _trained_on(self, modality: str, h: Tensor) -> Tensor:
        return self._judge(modality).trained_on(h) if self.judges else h

    def _thresholds(self, features: Heads, qhat: Heads | None) -> Heads | None:
        """Return the quantiles; where none are needed, ones that let every class in, or ``None`` during warm-up."""
        if self.conformal:
            return qhat
        if self._warming_up:
            return None
        everything = torch.full((), torch.inf, device=next(iter(features.values())).device)
        return dict.fromkeys((*features, FUSED), everything)


class _GradientScale:
    """Features whose gradient is multiplied, on its way to the encoder, by weights that are known only later."""

    def __init__(self, features: Heads) -> None:
        self.weights: Heads = {}
        self.features = {m: h.view_as(h) for m, h in features.items()}
        for m, h in self.features.items():
            if h.requires_grad:
                h.register_hook(lambda gradient, m=m: gradient * self.weights[m])  # type: ignore[no-untyped-call]  # torch's
