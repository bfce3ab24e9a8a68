"""CPSC: conformal predictive self-calibration of representations (RSC) and gradients (GSC).

Source: *Multimodal Learning on Low-Quality Data with Conformal Predictive Self-Calibration*, CVPR 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conformal_core import LAC, p_values
from cpsc_gsc import collaborative_reliability, gsc_weights, weighted_cross_entropy
from cpsc_rsc import MultimodalSelfCalibration, RSCOutput, represent
from cpsc_train.errors import UserError
from cpsc_train.methods.base import Heads, Method, PartFeatures, Quantiles, StepLosses
from cpsc_train.methods.joint import NO_WEIGHTS, joint_losses
from cpsc_train.methods.options import COUNT, NOT_NEGATIVE, MethodConfig, Range, Rule, Space
from cpsc_train.methods.rows import RowWeights
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, fill_absent, only_present

Parts = Literal["both", "rsc", "gsc", "neither"]


class CPSC(Method):
    """Joint and unimodal cross-entropy; with ``parts``, calibrated by reliability.

    RSC decomposes the feature of each modality, rates the components and recomposes the reliable ones; GSC weights the
    loss of each modality by its reliability. Without either, training has no conformal predictor and no warm-up.
    """

    config: CPSCConfig
    conformal = True
    static_graph = True
    reliability: Any = "normalized"
    """Kind of reliability of `cpsc_rsc` and `cpsc_gsc`."""

    def __init__(self, config: CPSCConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        super().__init__(config, model, modalities)
        self._plain = config.parts == "neither"
        self.warmup = 0 if self._plain and config.trust == "all" else config.warmup
        self.conformal = not self._plain
        self._a, self._b = (config.a, config.b) if config.parts in ("both", "gsc") else (0.0, 1.0)
        self.rsc = self.build_rsc(model.dim) if config.parts in ("both", "rsc") else None
        self.trust: RowTrust | None = None

    def build_rsc(self, dim: int, **options: Any) -> MultimodalSelfCalibration:
        """Return the RSC of all modalities; a subclass may add options."""
        return MultimodalSelfCalibration(
            dict.fromkeys(self.modalities, dim),
            components=self.config.components,
            top_k=self.config.top_k,
            residual=self.config.residual,
            consistency=self.config.consistency,
            diversity=self.config.diversity,
            reliability=self.reliability,
            **options,
        )

    def raters(self, model: MultimodalClassifier) -> nn.ModuleDict:
        """Return by modality the head that rates reliability."""
        return model.heads

    def gradient_weights(self, reliability: Heads, present: Present = COMPLETE) -> Heads:
        """Return the weights w = aρ + b (B,) of the unimodal losses."""
        return {m: gsc_weights(rho, a=self._a, b=self._b) for m, rho in reliability.items()}

    def on_fit_start(self, rows: int) -> None:
        """Allocate a weight for every training row if ``trust`` needs one."""
        if self.config.trust == "label":
            self.trust = RowTrust(self.modalities, rows)

    def features_needed(self, epoch: int) -> tuple[str, ...]:
        """Return the training and calibration parts after warm-up if rows are weighted."""
        return ("train", "calibration") if self.trust is not None and epoch >= self.warmup else ()

    def on_features(self, model: MultimodalClassifier, parts: dict[str, PartFeatures]) -> None:
        """Update the weights of the training rows."""
        if self.trust is not None:
            self.trust.on_features(model, parts["train"], parts["calibration"])

    def row_weights(self) -> Heads:
        """Return the current weights of the training rows."""
        return {} if self.trust is None else self.trust.weights()

    def losses(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> StepLosses:
        """Return ``ce_fused``, ``gsc`` and ``div_<modality>``; cross-entropies alone in warm-up and without parts."""
        if qhat is None or self._plain:
            return self._cross_entropies(model, features, labels, present)
        raters = self.raters(model)
        calibrated: dict[str, RSCOutput] = {}
        if self.rsc is not None:
            thresholds = {m: qhat[m] for m in features}
            calibrated = self.rsc(features, labels, heads=raters, qhat=thresholds, present=present, check=False)
        represented = features | {m: out.recomposed for m, out in calibrated.items()}
        logits = model.classify(represented, present)
        unimodal = {m: logits[m] for m in features}
        rated = unimodal if raters is model.heads else {m: raters[m](h) for m, h in represented.items()}
        reliability = collaborative_reliability(
            rated, fused_logits=logits[FUSED], qhat=qhat, kind=self.reliability, check=False
        )
        if self.config.heads_learn_on == "features":
            unimodal = model.unimodal(features, present)
        weights, diagnostics = self.gradient_weights(reliability, present), {}
        if self.trust is None:
            fused = cross_entropy(logits[FUSED], labels)
        else:
            trust = self.trust.weights(self.rows)
            fused = (trust[FUSED] * cross_entropy(logits[FUSED], labels, reduction="none")).mean()
            weights = {m: w * trust[m] for m, w in weights.items()}
            diagnostics["left_out"] = (trust[FUSED] == 0).double().mean()
        terms = {"ce_fused": fused} | {f"div_{m}": out.divergence for m, out in calibrated.items()}
        terms["gsc"] = weighted_cross_entropy(unimodal, labels, weights, present=present, check=False)
        distributions = {"reliability": reliability}
        if calibrated:
            distributions["component_reliability"] = {m: out.reliability for m, out in calibrated.items()}
        if present:
            distributions = {kind: without_absent(values, present) for kind, values in distributions.items()}
        return StepLosses(terms, logits, diagnostics, distributions)

    def _cross_entropies(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, present: Present
    ) -> StepLosses:
        """Return ``ce_<head>``, with the weights of the training rows if there are no parts."""
        trust = self.trust.weights(self.rows) if self.trust is not None and self._plain else NO_WEIGHTS
        plain = joint_losses(model, features, labels, present, unimodal=True, weights=trust)
        diagnostics = {"left_out": (trust[FUSED] == 0).double().mean()} if trust else {}
        return replace(plain, diagnostics=diagnostics)

    def predict(
        self, model: MultimodalClassifier, features: Heads, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Classify the representation chosen by ``inference``; the features during warm-up and without RSC."""
        logits = model.classify(features, present)
        if qhat is None or self.rsc is None or self.config.inference == "features":
            return logits
        represented = represent(
            self.rsc,
            features,
            mode=self.config.inference,
            predict=lambda _: logits[FUSED],
            heads=self.raters(model),
            qhat={m: qhat[m] for m in features},
            check=False,
        )
        represented = {m: only_present(h, present.get(m)) for m, h in represented.items()}
        calibrated = model.classify(represented, present)
        # A label that selects the components that agree with it says nothing about a modality alone.
        return logits | {FUSED: calibrated[FUSED]} if self.config.inference == "collaborative" else calibrated

    def calibration_logits(
        self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Quantiles, present: Present = COMPLETE
    ) -> Heads:
        """Return logits of the features, by head."""
        return {head: logits[:, None] for head, logits in model.classify(features, present).items()}


@dataclass(frozen=True, kw_only=True)
class CPSCConfig(MethodConfig, name="cpsc"):
    """Joint and unimodal cross-entropy; with `parts`, also the self-calibration of the paper.

    Without `parts`, all other options but `trust` have no effect.
    """

    source = "Multimodal Learning on Low-Quality Data with Conformal Predictive Self-Calibration, CVPR 2026"
    method: ClassVar[type[Method]] = CPSC
    rules = {
        "warmup": COUNT,
        "components": Rule("must be at least 2", lambda value: value >= 2),
        "residual": Rule("must lie in (0, 1]", lambda value: 0 < value <= 1),
    } | dict.fromkeys(("consistency", "diversity", "a", "b"), NOT_NEGATIVE)
    shares = {"warmup": 5 / 40}
    # The weights a, b, λ1 and λ2, α and n have no measurable effect: docs/beyond/index.md.
    search = {"residual": Range(0.05, 0.9), "heads_learn_on": ("recomposed", "features")}

    warmup: int = 5
    """Epochs t0 of cross-entropy (fused and unimodal) before the conformal predictor is built."""
    parts: Parts = "neither"
    """Parts of the paper in use. Without RSC, the heads receive the features; without GSC, all gradient weights are 1;
    with neither, training is that of ``joint-unimodal``, which was at least as accurate as the others."""
    components: int = 10
    """Number n of components of a feature."""
    top_k: int = 3
    """Most reliable components K that are recomposed."""
    residual: float = 0.3
    """Fraction γ of the component in c ← (1−γ)h + γc; 1 leaves the feature out."""
    consistency: float = 0.8
    """Weight λ1 of the divergence between components and feature, which is minimised."""
    diversity: float = 0.2
    """Weight λ2 of the divergence between components, which is maximised."""
    a: float = 0.6
    """Slope of the gradient weight w = aρ + b."""
    b: float = 0.6
    """Offset of the gradient weight."""
    trust: Literal["all", "label"] = "all"
    """Training rows that count, for data with wrong labels: ``all``, or those whose ``label`` conforms, updated each
    epoch. A row is left out if it conforms less than all but W calibration rows; the fused head misclassifies W."""
    heads_learn_on: Literal["recomposed", "features"] = "recomposed"
    """Input of the heads in the unimodal cross-entropies."""
    inference: Literal["features", "mean", "collaborative"] = "collaborative"
    """With RSC, representation of a modality without a label: its feature, the mean of its components, or the
    components that agree with the fused decision (which changes the fused decision alone)."""

    @property
    def searched(self) -> Space:
        """Options searched by ``cpsc tune``: none without parts, where they have no effect."""
        return {} if self.parts == "neither" else self.search

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.top_k <= self.components:
            raise UserError(f"method.top_k must lie in 1…components = {self.components}, got {self.top_k}")


def without_absent(values: Heads, present: Present) -> Heads:
    """Return values in [0, 1], with −1, which is not counted, for samples that lack the modality."""
    return {m: fill_absent(of, present.get(m), -1) for m, of in values.items()}


class RowTrust(RowWeights):
    """Weights of training rows from their labels, the same for all heads; 1 before the first `on_features`.

    The score of a row is how improbable the fused head finds its label, 1 − f(x)_y, and its conformal p-value the
    fraction of calibration rows with at least as large a score, itself included. Rows with a p-value of at most
    (W + 1)/(N' + 1) are left out, where W of the N' calibration rows have a label that the fused head gets wrong, for
    whatever reason: they conform less than all calibration rows but W. So the fraction of bad rows need not be known.
    If calibration rows are as bad as training rows, W contains that fraction; on clean ones, wrong labels conform less
    than nearly all.

    Notes
    -----
    Cost of `on_features`: O(N d C) and a sort. The model was trained on the training rows: memorised rows look more
    conforming than they would to another model. A row that is left out is not memorised.
    """

    def on_features(self, model: MultimodalClassifier, training: PartFeatures, calibration: PartFeatures) -> None:
        """Update the weights with the current model."""
        reference, probabilities = (_probabilities(model, part) for part in (calibration, training))
        wrong = int((reference.argmax(-1) != calibration.labels).sum())
        score = LAC()
        p = p_values(score(reference, calibration.labels), score(probabilities, training.labels))
        weights = np.where(np.asarray(p) > (wrong + 1) / (len(calibration.labels) + 1), 1.0, 0.0)
        mean = weights.mean()
        weights = weights / mean if mean > 0 else np.ones_like(weights)
        self.update(dict.fromkeys(self.heads, weights))


def _probabilities(model: MultimodalClassifier, part: PartFeatures) -> NDArray[np.float64]:
    device = next(model.heads.parameters()).device
    with torch.no_grad():
        present = {m: torch.from_numpy(mask).to(device) for m, mask in part.present.items()}
        logits = model.classify({m: torch.from_numpy(h).to(device) for m, h in part.features.items()}, present)
    probabilities: NDArray[np.float64] = logits[FUSED].double().softmax(-1).cpu().numpy()
    return probabilities
