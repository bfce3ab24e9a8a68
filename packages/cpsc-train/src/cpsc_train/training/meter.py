"""Running means that stay on the device until somebody reads them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cpsc_train.errors import UserError


class Meter:
    """Mean of named 0-d figures over the samples of an epoch.

    A sum that met one NaN or infinity never becomes finite again, so looking at the sums now and then finds every
    figure that was not finite, without a host copy at each step.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def add(self, figures: dict[str, Tensor], samples: int) -> None:
        """Add the means of one batch, weighted by its size."""
        self._samples += samples
        for name, figure in figures.items():
            weighted = figure.detach().double() * samples
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted

    def read(self) -> dict[str, float]:
        """Return the means; one copy to the host."""
        values = torch.stack(list(self._sums.values())).tolist() if self._sums else []
        return {name: value / self._samples for name, value in zip(self._sums, values, strict=True)}

    def check_finite(self, where: str) -> None:
        """Stop if a figure was not finite.

        Raises
        ------
        UserError
            Names the figures and `where` they were seen.
        """
        bad = [name for name, value in self.read().items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{where}: loss {', '.join(bad)} is not finite: lower optimizer.lr"
                + (
                    ", or take the bounded divergence, method.divergence=js"
                    if any("div" in name for name in bad)
                    else ""
                )
            )
