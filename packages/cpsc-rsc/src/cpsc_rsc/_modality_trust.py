"""Distances and curve of one modality, as buffers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from conformal_core import Mahalanobis, conformal_quantile
from conformal_core.checks import check_count
from cpsc_rsc.curve import OFFSET, log_trust

TINY = torch.finfo(torch.float32).tiny
ROUNDING = 1 + 1e-4  # thresholds are raised so far: distances are not computed by the operations of the scores


@dataclass(frozen=True)
class Fitted:
    """Fitted values of one depth; a threshold that is None has no effect."""

    centre: Tensor
    whitening: Tensor
    high: Tensor | None
    low: Tensor | None


class ModalityTrust(nn.Module):
    """Fitted values of one modality; its distances are 0 before they are set."""

    log_qhats: Tensor
    log_low: Tensor
    offset: Tensor
    slope: Tensor

    def __init__(self, name: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(check_count("widths", width) for width in widths)
        if not self.widths:
            raise ValueError(f"widths[{name!r}] must hold the width of at least one depth, got none")
        for k, width in enumerate(self.widths):
            self.register_buffer(f"centre_{k}", torch.zeros(width))
            self.register_buffer(f"whitening_{k}", torch.eye(width))
        self.register_buffer("log_qhats", torch.full((len(self.widths),), torch.inf))
        self.register_buffer("log_low", torch.tensor(-torch.inf))
        self.register_buffer("offset", torch.tensor(OFFSET))
        self.register_buffer("slope", torch.tensor(0.0))

    @property
    def untouched(self) -> bool:
        """Whether the thresholds are the initial ones; synchronises with the device. Meta tensors count as set."""
        return not self.log_qhats.is_meta and bool((self.log_qhats == torch.inf).all())

    def take(self, values: Sequence[Fitted]) -> None:
        limits = torch.finfo(torch.float32)
        for k, fitted in enumerate(values):
            self.get_buffer(f"centre_{k}").copy_(fitted.centre)
            self.get_buffer(f"whitening_{k}").copy_(fitted.whitening)
            high = fitted.centre.new_tensor(limits.max) if fitted.high is None else fitted.high * ROUNDING
            self.log_qhats[k] = high.clamp(limits.tiny, limits.max).log()
        low = values[0].low
        self.log_low.copy_(torch.tensor(0.0) if low is None else low / ROUNDING).log_()

    def novelty(self, depths: Sequence[Tensor]) -> Tensor:
        return _known((self._logs(depths) - self.log_qhats).amax(-1))

    def distance(self, depths: Sequence[Tensor]) -> Tensor:
        logs = self._logs(depths)
        high, low = (logs - self.log_qhats).amax(-1), self.log_low - logs[..., 0]
        return _known(torch.maximum(high, low)).relu()

    def _logs(self, depths: Sequence[Tensor]) -> Tensor:
        with torch.autocast(depths[0].device.type, enabled=False):  # half precision is too coarse for distances
            squares = []
            for k, h in enumerate(depths):
                centre, whitening = self.get_buffer(f"centre_{k}"), self.get_buffer(f"whitening_{k}")
                squares.append(linear(h.to(whitening.dtype) - centre, whitening).square().sum(-1))
            return torch.stack(squares, -1).clamp_min(TINY).log()

    def log_trust(self, distance: Tensor) -> Tensor:
        return log_trust(distance, self.offset, self.slope)


def _known(values: Tensor) -> Tensor:
    """Return values with +∞ in place of NaN."""
    return torch.where(values.isnan(), torch.inf, values)


def fit_depths(modality: str, sums: Sequence[Mahalanobis], depths: Sequence[Tensor], alpha: float) -> list[Fitted]:
    """Return the fitted values of K depths: an upper threshold for each, and a lower one for the first, at α / (K + 1).

    If the rows are too few, there is no lower threshold; if too few for α / K, no upper one at the last depths.
    """
    rows, exact = len(depths[0]), Fraction(str(alpha))
    possible = int(exact * (rows + 1))  # tests of level α / possible that the rows allow
    used, tests = min(len(depths), possible), min(len(depths) + 1, possible)
    if used < len(depths):
        kept = "only the first is used" if used == 1 else f"only the first {used} are used"
        effect = kept if used else "no sample is down-weighted"
        text = (
            f"{rows} held-out rows of {modality!r} are too few for alpha = {alpha} at {len(depths)} depths: {effect}; "
            f"give {-(-len(depths) // exact) - 1} rows or more, or a larger alpha"
        )
        warnings.warn(text, UserWarning, stacklevel=4)
    values = []
    for k, (score, h) in enumerate(zip(sums, depths, strict=True)):
        centre, whitening, _ = score.whitened()
        scores = score(h.detach().double(), check=False)
        high = conformal_quantile(scores, alpha=exact / tests) if k < used else None
        low = -conformal_quantile(-scores, alpha=exact / tests) if k == 0 and tests > used else None
        values.append(Fitted(centre, whitening, high, low))
    return values
