"""Distances and curve of one modality, as buffers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from conformal_core import Mahalanobis, conformal_quantile
from conformal_core.checks import check_count
from cpsc_rsc.curve import OFFSET, log_trust

TINY = torch.finfo(torch.float32).tiny
ROUNDING = 1 + 1e-4  # thresholds are raised so far: distances are not computed by the operations of the scores


Fitted = tuple[Tensor, Tensor, Tensor | None]  # centre, whitening and q̂ of a depth


class ModalityTrust(nn.Module):
    """Fitted values of one modality; its distances are 0 before they are set."""

    log_qhats: Tensor
    offset: Tensor
    slope: Tensor

    def __init__(self, name: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(check_count("depths", width) for width in widths)
        if not self.widths:
            raise ValueError(f"depths[{name!r}] must hold the width of at least one depth, got none")
        for k, width in enumerate(self.widths):
            self.register_buffer(f"centre_{k}", torch.zeros(width))
            self.register_buffer(f"whitening_{k}", torch.eye(width))
        self.register_buffer("log_qhats", torch.full((len(self.widths),), torch.inf))
        self.register_buffer("offset", torch.tensor(OFFSET))
        self.register_buffer("slope", torch.tensor(0.0))

    @property
    def untouched(self) -> bool:
        """Whether the thresholds are the initial ones; synchronises with the device. Meta tensors count as set."""
        return not self.log_qhats.is_meta and bool((self.log_qhats == torch.inf).all())

    def take(self, values: Sequence[Fitted]) -> None:
        limits = torch.finfo(torch.float32)
        for k, (centre, whitening, qhat) in enumerate(values):
            self.get_buffer(f"centre_{k}").copy_(centre)
            self.get_buffer(f"whitening_{k}").copy_(whitening)
            threshold = centre.new_tensor(limits.max) if qhat is None else qhat * ROUNDING
            self.log_qhats[k] = threshold.clamp(limits.tiny, limits.max).log()

    def novelty(self, depths: Sequence[Tensor]) -> Tensor:
        with torch.autocast(depths[0].device.type, enabled=False):  # half precision is too coarse for distances
            squares = []
            for k, h in enumerate(depths):
                centre, whitening = self.get_buffer(f"centre_{k}"), self.get_buffer(f"whitening_{k}")
                squares.append(linear(h.to(whitening.dtype) - centre, whitening).square().sum(-1))
            logs = torch.stack(squares, -1).clamp_min(TINY).log() - self.log_qhats
            novelty = logs.amax(-1)
            return torch.where(novelty.isnan(), torch.inf, novelty)

    def log_trust(self, distance: Tensor) -> Tensor:
        return log_trust(distance, self.offset, self.slope)


def fit_depths(modality: str, sums: Sequence[Mahalanobis], depths: Sequence[Tensor], alpha: float) -> list[Fitted]:
    """Return centre, whitening and q̂ at α / K of each depth; q̂ is None at the last ones if the rows are too few."""
    rows, exact = len(depths[0]), Fraction(str(alpha))
    used = min(len(depths), int(exact * (rows + 1)))
    if used < len(depths):
        effect = f"only the first {used} of {len(depths)} depths are used" if used else "no sample is down-weighted"
        text = (
            f"{rows} held-out rows of {modality!r} are too few for alpha = {alpha} at {len(depths)} depths: {effect}; "
            f"give {-(-len(depths) // exact) - 1} rows or more, or a larger alpha"
        )
        warnings.warn(text, UserWarning, stacklevel=4)
    values: list[Fitted] = []
    for k, (score, h) in enumerate(zip(sums, depths, strict=True)):
        centre, whitening, _ = score.whitened()
        scores = score(h.detach().double(), check=False)
        values.append((centre, whitening, conformal_quantile(scores, alpha=exact / used) if k < used else None))
    return values
