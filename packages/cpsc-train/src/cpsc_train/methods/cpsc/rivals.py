"""CPSC with reliability from a Bayesian approximation in place of the conformal predictor.

Reliability is the probability that the approximation gives the label, not the label's rank in a prediction set.
Shapes: B samples, d feature width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from cpsc_train.methods.base import AllReduce, Heads, head_cross_entropy
from cpsc_train.methods.cpsc.method import CPSC, CPSCConfig, Raters
from cpsc_train.methods.options import COUNT, Rule
from cpsc_train.models import COMPLETE, FUSED, MultimodalClassifier, Present, mean_present

Head = Callable[[Tensor], Tensor]

FLATTEST, SHARPEST = 0.05, 20.0
"""Bounds of an inverse temperature."""


class Temperature(nn.Module):
    """Logits of a head at a temperature fitted on the calibration samples.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017. Each time samples are scored, the inverse
    temperature takes a Newton step on their negative log-likelihood, which is convex in it.
    """

    inverse: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inverse", torch.ones(()))

    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return scaled logits (…, C) of x (…, d)."""
        return head(x) * self.inverse

    def calibrate(self, logits: Tensor, labels: Tensor, present: Tensor | None = None) -> None:
        """Take one Newton step for logits (B, C) of calibration samples with labels (B,), of those `present` (B,)."""
        z = logits.float()
        p = (z * self.inverse).softmax(-1)
        mean = (p * z).sum(-1)
        slope = mean_present(mean - z.gather(1, labels[:, None])[:, 0], present)
        curvature = mean_present((p * z.square()).sum(-1) - mean.square(), present)
        # Steps are limited to a factor of 2: a slice in which all probabilities are 0 or 1 has no curvature.
        step = slope / curvature.clamp(min=torch.finfo(z.dtype).eps)
        new = torch.maximum(torch.minimum(self.inverse - step, 2 * self.inverse), self.inverse / 2)
        self.inverse.copy_(new.clamp(FLATTEST, SHARPEST))


class MonteCarloDropout(nn.Module):
    """Mean of a head's probabilities over dropout masks of its input.

    Source: Gal and Ghahramani, *Dropout as a Bayesian Approximation*, ICML 2016. The masks are drawn once, so equal
    features get equal probabilities. Each mask drops a fraction `rate` of a feature. Cost: `draws` times that of the
    head.
    """

    masks: Tensor

    def __init__(self, dim: int, *, rate: float, draws: int) -> None:
        super().__init__()
        self.register_buffer("masks", dropout(torch.ones(draws, dim), rate, training=True))

    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return log-probabilities (…, C) of x (…, d)."""
        return log_mean_probability(torch.stack([head(x * mask) for mask in self.masks.to(x.dtype)]))


class Ensemble(nn.Module):
    """Mean of the probabilities of several heads with a hidden layer, each initialised by itself.

    Source: Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, NIPS
    2017. Members share the encoder, since components are parts of its features; their losses do not reach it.
    """

    def __init__(self, dim: int, classes: int, *, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, classes)) for _ in range(members)
        )

    def forward(self, _: Head, x: Tensor) -> Tensor:
        """Return log-probabilities (…, C) of x (…, d)."""
        return log_mean_probability(torch.stack([member(x) for member in self.members]))

    def loss(self, h: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the sum of the members' cross-entropies for features h (B, d), over the samples `present` (B,)."""
        return torch.stack([head_cross_entropy(member(h.detach()), labels, present) for member in self.members]).sum()


def log_mean_probability(logits: Tensor) -> Tensor:
    """Return the logarithm (…, C) of the mean of softmax over the first axis of logits (E, …, C).

    Examples
    --------
    >>> two = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    >>> torch.allclose(log_mean_probability(two).exp(), torch.tensor([0.7, 0.3]))
    True
    """
    return logits.float().log_softmax(-1).logsumexp(0) - math.log(len(logits))


class RivalCPSC(CPSC):
    """CPSC with one rater a modality, a module called with the head and its input."""

    reliability = "probability"

    def __init__(self, config: CPSCConfig, model: MultimodalClassifier, modalities: tuple[str, ...]) -> None:
        judges = {m: self.build_rater(config, model) for m in modalities}
        super().__init__(config, model, modalities)
        self.judges = nn.ModuleDict(judges)
        self._warming_up = False

    @staticmethod
    def build_rater(config: Any, model: MultimodalClassifier) -> nn.Module:
        """Return the rater of one modality."""
        raise NotImplementedError

    def raters(self, model: MultimodalClassifier) -> Raters:
        """Return the raters, with the head of their modality."""
        return {m: partial(judge, model.heads[m]) for m, judge in self.judges.items()}

    def on_epoch_start(self, epoch: int, all_reduce: AllReduce) -> None:
        """Store whether this is warm-up."""
        self._warming_up = epoch < self.warmup

    def thresholds(self, features: Heads, qhat: Heads | None) -> Heads | None:
        """Return infinite thresholds where no predictor is calibrated: every class is in every set."""
        if self.conformal:
            return qhat
        if self._warming_up:
            return None
        infinite = torch.full((), torch.inf, device=next(iter(features.values())).device)
        return dict.fromkeys((*features, FUSED), infinite)


class TemperatureCPSC(RivalCPSC):
    """CPSC with temperature scaling."""

    @staticmethod
    def build_rater(config: Any, model: MultimodalClassifier) -> nn.Module:
        """Return the rater of one modality."""
        return Temperature()

    def calibration_logits(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
        present: Present = COMPLETE,
    ) -> Heads:
        """Return logits of the features by head, after a step of the temperatures."""
        logits = super().calibration_logits(model, features, labels, qhat, present)
        for m in features:
            cast("Temperature", self.judges[m]).calibrate(logits[m][:, 0], labels, present.get(m))
        return logits


class MCDropoutCPSC(RivalCPSC):
    """CPSC with Monte Carlo dropout on the inputs of the heads, in training too."""

    config: MCDropoutConfig
    conformal = False

    @staticmethod
    def build_rater(config: Any, model: MultimodalClassifier) -> nn.Module:
        """Return the rater of one modality."""
        return MonteCarloDropout(model.dim, rate=config.dropout, draws=config.draws)

    def head_inputs(self, features: Heads) -> Heads:
        """Return the features with dropout."""
        return {m: dropout(h, self.config.dropout, training=self.training) for m, h in features.items()}


class EnsembleCPSC(RivalCPSC):
    """CPSC with an ensemble of heads."""

    conformal = False

    @staticmethod
    def build_rater(config: Any, model: MultimodalClassifier) -> nn.Module:
        """Return the rater of one modality."""
        return Ensemble(model.dim, model.classes, members=config.experts)

    def rater_losses(self, features: Heads, labels: Tensor, present: Present = COMPLETE) -> Heads:
        """Return ``judge_<modality>``."""
        return {
            f"judge_{m}": cast("Ensemble", judge).loss(features[m], labels, present.get(m))
            for m, judge in self.judges.items()
        }


@dataclass(frozen=True, kw_only=True)
class TemperatureConfig(CPSCConfig, name="cpsc-temperature"):
    """CPSC rated by the head's probability at a fitted temperature."""

    source = "Guo et al., On Calibration of Modern Neural Networks, ICML 2017"
    method = TemperatureCPSC


@dataclass(frozen=True, kw_only=True)
class MCDropoutConfig(CPSCConfig, name="cpsc-mc-dropout"):
    """CPSC rated by the mean probability over dropout masks."""

    source = "Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016"
    method = MCDropoutCPSC
    rules = {"dropout": Rule("must lie in (0, 1)", lambda value: 0 < value < 1), "draws": COUNT, **CPSCConfig.rules}

    dropout: float = 0.2
    """Fraction of a head's input that is dropped."""
    draws: int = 10
    """Number of masks."""


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(CPSCConfig, name="cpsc-ensemble"):
    """CPSC rated by the mean probability of an ensemble of heads."""

    source = "Lakshminarayanan et al., Predictive Uncertainty Estimation using Deep Ensembles, NIPS 2017"
    method = EnsembleCPSC
    rules = {"experts": COUNT, **CPSCConfig.rules}

    experts: int = 5
    """Number of heads."""
