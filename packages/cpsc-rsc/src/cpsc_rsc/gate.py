"""A gate that down-weights a modality at inference if its features differ from the calibration features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from conformal_core import FeatureNorm, Mahalanobis, NoveltyGate
from conformal_core.checks import check_choice, check_count
from cpsc_rsc._checks import check_feature, check_modalities, check_present
from cpsc_rsc._versions import refuse_newer

Distance = Literal["classes", "all"]
TINY = torch.finfo(torch.float32).tiny
ROUNDING = 1 + 1e-4  # thresholds are raised so far: weights are not computed by the operations of the scores
DIRECT = "donot_use_mm_for_euclid_dist"  # one kernel; avoids the difference of large squares


class ConformalGate(nn.Module):
    """Scale the features of each modality by a conformal novelty weight, w·h.

    w = min(1, q̂ / s, q̂' / s'): s is the squared Mahalanobis distance to the training features, s' measures how unusual
    their length is, and q̂ and q̂' are the conformal quantiles of both on the calibration rows. No label is needed and
    nothing is learned by gradient. Any fusion may follow: linear heads of late fusion then give w·z, a concatenation
    or a sum sees less of the modality, and a modality with w = 0 is missing. For attention, add the logarithm of
    `weights` to the attention scores of the modality.

    Shapes: B samples, N training and N' calibration samples, M modalities, d_m features, C classes.

    Parameters
    ----------
    dims : Mapping[str, int]
        Modality to the width d_m of its features.
    classes : int
        C.
    alpha : float
        Largest fraction of clean samples in which a modality is down-weighted, in (0, 1), half of it by each of the
        two scores; below 2/(N' + 1) no sample is down-weighted.
    distance : {"classes", "all"}
        To the nearest class mean with the within-class covariance, or to the mean of all rows with the total
        covariance.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range.

    Notes
    -----
    On samples exchangeable with the calibration ones P(w < 1) ≤ alpha for each modality, on average over calibration
    sets; see `conformal_core.NoveltyGate`. Thresholds are raised by .01 %, so rounding gives no sample at the
    threshold a weight below 1. The distance detects noise, the length (`conformal_core.FeatureNorm`) a dead sensor.
    Before `fit` every weight is 1, and the first use gives a warning. The fitted values are buffers: they are saved,
    moved and exported with a model. A forward pass costs O(B d (d + C)) a modality, without a host sync.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> gate = ConformalGate({"audio": 8, "image": 6}, classes=3)
    >>> training, calibration = ({"audio": torch.randn(n, 8), "image": torch.randn(n, 6)} for n in (300, 100))
    >>> gate.fit(training, torch.arange(300) % 3, calibration)
    >>> noisy, dead = 9 * torch.randn(2, 8), torch.zeros(2, 6)
    >>> {m: bool((w < 0.2).all()) for m, w in gate.weights({"audio": noisy, "image": dead}).items()}
    {'audio': True, 'image': True}
    >>> gate.weights({"image": training["image"][:2]})["image"].tolist()
    [1.0, 1.0]
    """

    _version = 1  # of the state_dict() format

    def __init__(
        self, dims: Mapping[str, int], *, classes: int, alpha: float = 0.04, distance: Distance = "classes"
    ) -> None:
        super().__init__()
        self.distance = check_choice("distance", distance, Distance)
        self.classes = check_count("classes", classes)
        self.alpha = alpha
        groups = self.classes if distance == "classes" else 1
        self._of = nn.ModuleDict({m: _Fitted(check_count("dim", dim), groups) for m, dim in dims.items()})
        self.register_load_state_dict_pre_hook(refuse_newer)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_update_fitted)  # type: ignore[no-untyped-call]
        self._fitted = False
        self._warned = False
        NoveltyGate(FeatureNorm(), alpha=alpha)  # refuses a bad alpha now

    def fit(self, training: Mapping[str, Tensor], labels: Tensor, calibration: Mapping[str, Tensor]) -> None:
        """Fit distances to training features and thresholds to calibration features, both in evaluation mode.

        Parameters
        ----------
        training : Mapping[str, Tensor], each of shape (N, d_m)
        labels : integer Tensor, shape (N,)
        calibration : Mapping[str, Tensor], each of shape (N', d_m)
            Of samples that are neither in `training` nor were used to train the model.

        Raises
        ------
        TypeError, ValueError
            If a mapping lacks a modality or has an unknown one, or an entry has the wrong type or shape; the gate is
            unchanged then.
        """
        check_modalities("training", training, self._of)
        check_modalities("calibration", calibration, self._of)
        for m in self._of:
            for name, mapping in (("training", training), ("calibration", calibration)):
                check_feature(f"{name}[{m!r}]", mapping[m], self._width(m))
        fitted = [self._cores(training[m], labels, calibration[m]) for m in self._of]
        for module, cores in zip(self._of.values(), fitted, strict=True):  # only after all of them were fitted
            cast("_Fitted", module).take(*cores)
        self._fitted = True

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called, or the state of a fitted gate was loaded."""
        return self._fitted

    def weights(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights in [0, 1], (B,), of the modalities in `features`.

        Parameters
        ----------
        features : Mapping[str, Tensor], each of shape (B, d_m)
            At least one modality; missing ones are left out.

        Raises
        ------
        TypeError, ValueError
            If a modality is unknown, or an entry has the wrong type or shape.
        """
        check_present("features", features, self._of)
        for m, h in features.items():
            check_feature(f"features[{m!r}]", h, self._width(m))
        if not torch.compiler.is_compiling():
            self._warn_unless_fitted()
        return {m: self._of[m](h) for m, h in features.items()}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features (B, d_m) times their weights; arguments and errors are those of `weights`.

        Features that are not finite have weight 0, and become 0.
        """
        return self.scale(features, self.weights(features))

    @staticmethod
    def scale(features: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return features (B, d_m) times weights (B,) that `weights` returned for them."""
        return {m: (h * weights[m][:, None].to(h.dtype)).nan_to_num(nan=0.0) for m, h in features.items()}

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        return f"alpha={self.alpha}, distance={self.distance!r}"

    def _cores(self, training: Tensor, labels: Tensor, calibration: Tensor) -> list[NoveltyGate]:
        cores = [NoveltyGate(score, alpha=self.alpha / 2) for score in (self._score(), FeatureNorm())]
        for core in cores:
            core.score.update(training.detach(), labels if self.distance == "classes" else None)
            core.calibrate(calibration.detach().double())
        return cores

    def _score(self) -> Mahalanobis:
        return Mahalanobis(classes=self.classes if self.distance == "classes" else None, shrinkage=1e-3)

    def _warn_unless_fitted(self) -> None:
        if not self._fitted and not self._warned:
            self._warned = True
            text = "ConformalGate is not fitted, so every weight is 1: call fit(), or load the state of one that is"
            warnings.warn(text, UserWarning, stacklevel=3)

    def _width(self, modality: str) -> int:
        return cast("_Fitted", self._of[modality]).bias.shape[0]


class _Fitted(nn.Module):
    """Fitted values of one modality; its weight is 1 before they are set.

    s = min over k of ‖W h + b − p_k‖², with b = −W c, and √(s' / q̂') = slope · log‖h‖ + offset, in as few operations as
    possible: each is a kernel launch on a GPU.
    """

    whitening: Tensor
    bias: Tensor
    points: Tensor
    qhat: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.register_buffer("whitening", torch.eye(dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("points", torch.zeros(groups, dim))
        self.register_buffer("qhat", torch.tensor(torch.finfo(torch.float32).max))
        self.register_buffer("slope", torch.tensor(0.0))
        self.register_buffer("offset", torch.tensor(0.0))

    @property
    def untouched(self) -> bool:
        """Whether the values are the initial ones; synchronises with the device. Meta tensors count as fitted."""
        if self.whitening.is_meta:
            return False
        return not self.bias.any() and torch.equal(self.whitening, torch.eye(len(self.bias)).to(self.whitening))

    def take(self, distance: NoveltyGate, length: NoveltyGate) -> None:
        centre, whitening, points = distance.score.whitened()
        self.whitening.copy_(whitening)
        self.bias.copy_(-whitening @ centre)
        self.points.copy_(points[:1])  # a class without samples repeats another class's point
        self.points[: len(points)].copy_(points)
        limits = torch.finfo(self.qhat.dtype)
        self.qhat.copy_((torch.as_tensor(distance.qhat) * ROUNDING).clamp(limits.tiny, limits.max))
        mean, deviation = length.score.logarithm()
        unit = deviation * (torch.as_tensor(length.qhat) * ROUNDING).to(deviation).clamp_min(limits.tiny).sqrt()
        self.slope.copy_((1 / unit)[0])
        self.offset.copy_((-mean / unit)[0])

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):  # half precision is too coarse for distances
            h = h.to(self.whitening.dtype)
            x = linear(h, self.whitening, self.bias)
            far = torch.cdist(x, self.points, compute_mode=DIRECT).amin(-1).square() / self.qhat
            log = torch.linalg.vector_norm(h, dim=-1).clamp_min(TINY).log()
            unusual = torch.addcmul(self.offset, self.slope, log).square()
            return torch.maximum(far, unusual).clamp_min(1).reciprocal().nan_to_num(nan=0.0)


def _update_fitted(gate: ConformalGate, _keys: object) -> None:
    """Set `fitted` after a state was loaded, which may be that of an unfitted gate."""
    gate._fitted = not all(cast("_Fitted", fitted).untouched for fitted in gate._of.values())
