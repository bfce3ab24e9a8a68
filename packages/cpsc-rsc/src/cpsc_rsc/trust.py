"""Calibrated trust in each modality at inference, from conformal distances at several depths of its encoder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from conformal_core import Mahalanobis, quantile_rank
from conformal_core.checks import check_nonnegative, is_checked
from cpsc_rsc._checks import check_feature, check_mask, check_modalities, check_present
from cpsc_rsc._curve_fit import Classify, fit_curves
from cpsc_rsc._modality_trust import ModalityTrust, fit_depths
from cpsc_rsc._versions import refuse_newer
from cpsc_rsc.curve import HeldOutCopy, check_copies

Depths = Mapping[str, Sequence[Tensor]]


class ConformalTrust(nn.Module):
    """Weigh the features of each modality by how much they can be trusted, w·h.

    A modality has activations at K depths of its encoder. s_k is the squared Mahalanobis distance of those at depth k
    to the training rows, q̂_k its upper conformal quantile on held-out rows, and q̌ the lower one of s_1, each at level
    α / (K + 1): activations can be unusual because they are far from those of clean rows, as under noise, or because
    they vary too little, as in a dark or blank input. The distance of a row is D = max(0, log(s_1 / q̂_1), …,
    log(s_K / q̂_K), log(q̌ / s_1)). The trust g(D) = σ(b − c·D) / σ(b) is 1 at D = 0 and falls with D.
    `fit_curve` fits b and c ≥ 0 on held-out rows; before, every weight is 1.

    Shapes: B samples, N training or held-out samples, K_m depths of modality m, d_k activations at depth k, C classes.

    Parameters
    ----------
    widths : Mapping[str, Sequence[int]]
        Modality to the widths d_k of its activations, from the first depth to the last.
    alpha : float
        Largest fraction of clean samples in which a modality has a trust below 1, in (0, 1).

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range, or a modality has no depth.

    Notes
    -----
    On samples exchangeable with the held-out ones P(D > 0) ≤ alpha for each modality, on average over held-out sets:
    P(s_k > q̂_k) ≤ α / (K + 1) at every depth, and so is P(s_1 < q̌). Thresholds are moved by .01 %, so rounding gives
    no sample at a threshold a distance above 0. If the held-out rows are too few, the level is α / K without the lower
    threshold; if they are too few for that, the last depths are left out, with a warning.
    Covariances are shrunk as in Ledoit and Wolf (2004). The fitted values are buffers: they are saved, moved and
    exported with a model. The sums over training rows are not saved, so `update` of a loaded module starts from no
    rows. A forward pass costs O(B Σ d_k²) a modality, without a host sync.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> trust = ConformalTrust({"audio": (4, 8), "image": (6,)})
    >>> def rows(n, scale=1.0):
    ...     return {"audio": (scale * torch.randn(n, 4), torch.randn(n, 8)), "image": (torch.randn(n, 6),)}
    >>> trust.update(rows(300))
    >>> trust.calibrate(rows(99))
    >>> distances = trust.distances(rows(2, scale=9.0))  # noise at the first depth of the audio
    >>> bool((distances["audio"] > 1).all()), distances["image"].tolist()
    (True, [0.0, 0.0])
    """

    _version = 1  # of the state_dict() format

    def __init__(self, widths: Mapping[str, Sequence[int]], *, alpha: float = 0.05) -> None:
        super().__init__()
        check_present("widths", widths, widths)
        quantile_rank(1, alpha=alpha)  # refuses a bad alpha now
        self.alpha = alpha
        self._of = nn.ModuleDict({m: ModalityTrust(m, own) for m, own in widths.items()})
        self._sums = {m: [Mahalanobis() for _ in own] for m, own in widths.items()}
        self._trained = dict.fromkeys(widths, 0)  # rows in the sums
        self.register_load_state_dict_pre_hook(refuse_newer)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_update_calibrated)  # type: ignore[no-untyped-call]
        self._calibrated = False
        self._warned = False

    @property
    def calibrated(self) -> bool:
        """Whether `calibrate` was called, or the state of a calibrated module was loaded."""
        return self._calibrated

    def update(self, depths: Depths, *, check: bool | None = None) -> None:
        """Add training rows to the distances, which change at the next `calibrate`.

        Parameters
        ----------
        depths : Mapping[str, Sequence[Tensor]], each of shape (N, d_k)
            In evaluation mode. At least one modality; their numbers of rows may differ.
        check : bool, optional
            Whether to check that values are finite. Default: only if the host can read them without a sync.

        Raises
        ------
        TypeError, ValueError
            If a modality is unknown, or an entry has the wrong type or shape or is not finite; nothing changes then.
        """
        self._check(depths, check)
        for m, activations in depths.items():
            for score, h in zip(self._sums[m], activations, strict=True):
                score.update(h.detach(), check=False)
            self._trained[m] += len(activations[0])

    def merge(self, *others: ConformalTrust) -> None:
        """Add the training rows of others, such as those of processes with a part each; see `update`.

        Raises
        ------
        ValueError
            If another has other modalities or widths, or is this one.
        """
        for other in others:
            if other is self or other.widths != self.widths:
                raise ValueError(f"merge takes others with the depths {self.widths}, got {other.widths}")
        for other in others:
            for m in self._of:
                if other._trained[m]:
                    for score, part in zip(self._sums[m], other._sums[m], strict=True):
                        score.merge(part)
                    self._trained[m] += other._trained[m]

    def calibrate(self, depths: Depths, *, check: bool | None = None) -> None:
        """Set the distances by all training rows so far, and the thresholds by held-out rows.

        Parameters
        ----------
        depths : Mapping[str, Sequence[Tensor]], each of shape (N, d_k)
            In evaluation mode, of samples that are neither in the training rows nor were used to train the model.
        check : bool, optional
            As in `update`.

        Raises
        ------
        TypeError, ValueError
            If the mapping lacks a modality or has an unknown one, an entry has the wrong type or shape or is not
            finite, or a modality has no training row; nothing changes then.
        """
        check_modalities("depths", depths, self._of)
        self._check(depths, check)
        if lacking := [m for m in self._of if self._trained[m] == 0]:
            raise ValueError(f"{lacking[0]!r} has no training rows: call update() before calibrate()")
        fitted = [fit_depths(m, self._sums[m], depths[m], self.alpha) for m in self._of]
        for of, values in zip(self._of.values(), fitted, strict=True):  # only after all of them were fitted
            cast("ModalityTrust", of).take(values)
        self._calibrated = True

    def novelty(self, depths: Depths) -> dict[str, Tensor]:
        """Return max over k of log(s_k / q̂_k), (B,), also where it is negative; +∞ for values that are not finite.

        On a stream, its ranks among clean rows show lasting changes that no single row shows. Argument and errors are
        those of `distances`.
        """
        self._check_new(depths)
        return {m: cast("ModalityTrust", self._of[m]).novelty(activations) for m, activations in depths.items()}

    def fit_curve(self, copies: Sequence[HeldOutCopy], classify: Classify, *, ridge: float = 1.0) -> None:
        """Fit b and c of every modality to held-out rows, clean and with generic corruptions.

        The loss is the cross-entropy of `classify` on the weighted features, the clean copies counting four times as
        much as a corrupted one. If there is no corrupted copy, or the loss does not fall in cross-validation by more
        than a standard error, every weight stays 1.

        Parameters
        ----------
        copies : Sequence[HeldOutCopy]
            Copies of the same rows, one or more of them clean; not rows that set the thresholds of prediction sets.
        classify : callable
            ``classify(features, present)`` returns the logits (N, C), differentiable with respect to the features.
        ridge : float
            Strength of the ridge penalty towards weights of 1, at least 0; it is divided by the number of rows.

        Raises
        ------
        TypeError, ValueError
            If no copy is clean, or an entry has the wrong type or shape; nothing changes then.

        Notes
        -----
        The result is deterministic. The logits are multiplied by a common factor during the fit, so the curves measure
        the worth of modalities relative to each other. Costs about 200 evaluations of `classify` on all copies.
        """
        check_copies(copies, list(self._of))
        values = fit_curves(copies, classify, list(self._of), check_nonnegative("ridge", ridge))
        for of, (b, slope) in zip(self._of.values(), values.T, strict=True):
            modality = cast("ModalityTrust", of)
            modality.offset.copy_(b)
            modality.slope.copy_(slope)

    def distances(self, depths: Depths) -> dict[str, Tensor]:
        """Return the distances D ≥ 0, (B,), of the modalities in `depths`; +∞ for values that are not finite.

        Parameters
        ----------
        depths : Mapping[str, Sequence[Tensor]], each of shape (B, d_k)
            At least one modality; missing ones are left out.

        Raises
        ------
        TypeError, ValueError
            If a modality is unknown, or an entry has the wrong type or shape.
        """
        self._check_new(depths)
        return {m: cast("ModalityTrust", self._of[m]).distance(activations) for m, activations in depths.items()}

    def trust(self, distances: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return g(D) in [0, 1] for distances (B,): 1 where nothing is unusual, 0 where D = +∞.

        Raises
        ------
        TypeError, ValueError
            If a modality is unknown, or there is none.
        """
        check_present("distances", distances, self._of)
        return {m: cast("ModalityTrust", self._of[m]).log_trust(distance).exp() for m, distance in distances.items()}

    def weights(self, depths: Depths, *, present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return `weights_at` the `distances` of `depths`; arguments and errors are theirs."""
        return self.weights_at(self.distances(depths), present=present)

    def weights_at(
        self, distances: Mapping[str, Tensor], *, present: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the weights in [0, 1], (B,), at distances (B,): the trust g(D).

        If every modality of a row has a trust below 1, all are divided by the largest: the row is classified by the
        most trusted evidence, not by the biases of the heads. Modalities without an entry in `present`, (B,) booleans,
        are in all rows.

        Raises
        ------
        TypeError, ValueError
            If a modality is unknown or there is none, or a mask has the wrong type or shape.
        """
        check_present("distances", distances, self._of)
        logs = {m: cast("ModalityTrust", self._of[m]).log_trust(distance) for m, distance in distances.items()}
        largest = torch.stack(list(_where_present(logs, present or {}).values())).amax(0)
        largest = largest.clamp_min(torch.finfo(largest.dtype).min)  # −∞ if there is none
        return {m: (log - largest).exp() for m, log in logs.items()}

    def forward(self, features: Mapping[str, Tensor], depths: Depths) -> dict[str, Tensor]:
        """Return the features (B, d) of the modalities times their `weights` at `depths`; see `scale`."""
        return self.scale(features, self.weights(depths))

    @staticmethod
    def scale(features: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return features (B, d) times weights (B,) that `weights` returned for them; NaN becomes 0."""
        return {m: (h * weights[m][:, None].to(h.dtype)).nan_to_num(nan=0.0) for m, h in features.items()}

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        return f"{self.widths}, alpha={self.alpha}"

    @property
    def widths(self) -> dict[str, tuple[int, ...]]:
        """Widths of the activations of each modality, from the first depth to the last."""
        return {m: cast("ModalityTrust", of).widths for m, of in self._of.items()}

    def _check(self, depths: Depths, check: bool | None) -> None:
        check_present("depths", depths, self._of)
        for m, activations in depths.items():
            widths = cast("ModalityTrust", self._of[m]).widths
            if len(activations) != len(widths):
                raise ValueError(f"depths[{m!r}] must hold {len(widths)} tensors, one a depth, got {len(activations)}")
            for k, (h, width) in enumerate(zip(activations, widths, strict=True)):
                check_feature(f"depths[{m!r}][{k}]", h, width)
                if is_checked(h, check) and not bool(h.isfinite().all()):
                    raise ValueError(f"depths[{m!r}][{k}] must be finite, got NaN or infinity: leave such rows out")

    def _check_new(self, depths: Depths) -> None:
        self._check(depths, check=False)
        if not torch.compiler.is_compiling():
            self._warn_unless_calibrated()

    def _warn_unless_calibrated(self) -> None:
        if not self._calibrated and not self._warned:
            self._warned = True
            text = (
                "ConformalTrust is not calibrated, so every weight is 1: call update() and calibrate(), or load the "
                "state of one that is"
            )
            warnings.warn(text, UserWarning, stacklevel=4)


def _update_calibrated(trust: ConformalTrust, _keys: object) -> None:
    """Set `calibrated` after a state was loaded, which may be that of a module that is not calibrated."""
    trust._calibrated = not all(cast("ModalityTrust", of).untouched for of in trust._of.values())


def _where_present(logs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return log-trusts (B,) that are −∞ for rows without the modality."""
    masked = dict(logs)
    for m in logs.keys() & present.keys():
        check_mask(f"present[{m!r}]", present[m], logs[m].shape[0])
        masked[m] = logs[m].masked_fill(~present[m], -torch.inf)
    return masked
