"""Other sources of reliability than a conformal predictor: what Bayesian approximations say of a label.

Each stands where a head stands, maps (…, d) to the logarithm of predictive probabilities (…, C), and is asked for the
probability of a label instead of its rank in a prediction set. Shapes: B samples, d feature width, C classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

Head = Callable[[Tensor], Tensor]

FLATTEST, SHARPEST = 0.05, 20.0
"""Bounds of an inverse temperature."""


class Judge(nn.Module):
    """What one modality's reliability comes from; the base class changes nothing about training."""

    @abstractmethod
    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return log-probabilities (…, C), or logits that have them as their softmax, of x (…, d)."""

    def trained_on(self, h: Tensor) -> Tensor:
        """Return what heads are given of a feature (B, d) in training."""
        return h

    def loss(self, h: Tensor, labels: Tensor) -> Tensor | None:
        """Return what the judge itself has to learn, 0-d."""
        return None

    def calibrate(self, logits: Tensor, labels: Tensor) -> None:
        """Look at logits (B, C) of calibration samples with labels (B,), without gradient."""


class Temperature(Judge):
    """The head's own probabilities at a temperature that is fitted on the calibration samples.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017. Each time samples are scored, the inverse
    temperature takes a step of Newton's method on their negative log-likelihood, which is convex in it.
    """

    inverse: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inverse", torch.ones(()))

    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return scaled logits."""
        return head(x) * self.inverse

    def calibrate(self, logits: Tensor, labels: Tensor) -> None:
        """Take the step."""
        z = logits.float()
        p = (z * self.inverse).softmax(-1)
        mean = (p * z).sum(-1)
        slope = (mean - z.gather(1, labels[:, None])[:, 0]).mean()
        curvature = ((p * z.square()).sum(-1) - mean.square()).mean()
        # A long step is cut, so that a slice on which all probabilities are 0 or 1 moves it by a factor of 2 at most.
        step = slope / curvature.clamp(min=torch.finfo(z.dtype).eps)
        new = torch.maximum(torch.minimum(self.inverse - step, 2 * self.inverse), self.inverse / 2)
        self.inverse.copy_(new.clamp(FLATTEST, SHARPEST))


class MonteCarloDropout(Judge):
    """The mean of a head's probabilities over masks of its input, and dropout on that input in training.

    Source: Gal and Ghahramani, *Dropout as a Bayesian Approximation*, ICML 2016. The masks are drawn once, so that the
    same feature is always judged the same. Cost: `draws` times that of the head.

    Parameters
    ----------
    dim
        d.
    rate
        Share of a feature that is dropped.
    draws
        Number of masks.
    """

    masks: Tensor

    def __init__(self, dim: int, *, rate: float, draws: int) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("masks", dropout(torch.ones(draws, dim), rate, training=True))

    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return the logarithm of the mean."""
        return mean_of_experts(torch.stack([head(x * mask) for mask in self.masks.to(x.dtype)]))

    def trained_on(self, h: Tensor) -> Tensor:
        """Return the feature with dropout."""
        return dropout(h, self.rate, training=self.training)


class Ensemble(Judge):
    """The mean of the probabilities of several heads with a hidden layer, each with a start of its own.

    Source: Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, NIPS
    2017. Members share the encoder, since components are parts of its features; they learn from features and do not
    change them.

    Parameters
    ----------
    dim, classes
        d and C.
    members
        Number of heads.
    """

    def __init__(self, dim: int, classes: int, *, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, classes)) for _ in range(members)
        )

    def forward(self, head: Head, x: Tensor) -> Tensor:
        """Return the logarithm of the mean."""
        return mean_of_experts(torch.stack([member(x) for member in self.members]))

    def loss(self, h: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the members' cross-entropies."""
        return torch.stack([cross_entropy(member(h.detach()), labels) for member in self.members]).sum()


def mean_of_experts(logits: Tensor) -> Tensor:
    """Return the logarithm (…, C) of the mean of softmax over the first axis of logits (E, …, C).

    Examples
    --------
    >>> two = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    >>> torch.allclose(mean_of_experts(two).exp(), torch.tensor([0.7, 0.3]))
    True
    """
    return logits.float().log_softmax(-1).logsumexp(0) - math.log(len(logits))
