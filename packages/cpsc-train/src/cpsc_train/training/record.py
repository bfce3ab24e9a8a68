"""What an epoch leaves behind. Figures stay on the device until somebody reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cpsc_train.methods import StepLosses
from cpsc_train.training.distributed import Process

ALONE = Process()
BINS = 20
"""Bins of a histogram over [0, 1]."""
TOGETHER = 50
"""Steps whose figures are taken to pieces at once, so that a step itself costs next to nothing."""


class Meter:
    """Mean of named 0-d figures over the samples of an epoch.

    A sum that met one NaN or infinity never becomes finite again, so that looking at the sums now and then finds every
    figure that was not finite, without a host copy at each step.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._samples = 0

    def add(self, figures: dict[str, Tensor], samples: int) -> None:
        """Add the means of one batch, weighted by its size; the same names at every call."""
        if not figures:
            return
        weighted = torch.stack([figure.detach() for figure in figures.values()]).double() * samples
        self._names = tuple(figures)
        self._sums = weighted if self._sums is None else self._sums + weighted
        self._samples += samples

    def read(self, process: Process = ALONE) -> dict[str, float]:
        """Return the means over all processes; one copy to the host."""
        if self._sums is None:
            return {}
        *sums, samples = process.sum(torch.cat([self._sums, self._sums.new_tensor([self._samples])])).tolist()
        return {name: value / samples for name, value in zip(self._names, sums, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Return names, sums and the number of samples."""
        return {"names": self._names, "sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._names, self._sums, self._samples = tuple(state["names"]), state["sums"], state["samples"]


class Distribution:
    """Mean and histogram of figures in [0, 1]."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._counts: Tensor | None = None
        self._sum: Tensor | None = None

    def add(self, figures: Tensor) -> None:
        """Add figures of any shape."""
        self._waiting.append(figures.detach().flatten())
        if len(self._waiting) >= TOGETHER:
            self._settle()

    def read(self, process: Process = ALONE) -> tuple[float, list[int]]:
        """Return the mean, and the counts of `BINS` equal bins, over all processes; 1 belongs to the last bin."""
        self._settle()
        if self._counts is None or self._sum is None:
            return 0.0, [0] * BINS
        counts = process.sum(self._counts).tolist()
        return float(process.sum(self._sum)) / max(sum(counts), 1), counts

    def state_dict(self) -> dict[str, Any]:
        """Return counts and sum."""
        self._settle()
        return {"counts": self._counts, "sum": self._sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._counts, self._sum = state["counts"], state["sum"]

    def _settle(self) -> None:
        if not self._waiting:
            return
        figures = torch.cat(self._waiting).double()
        self._waiting.clear()
        places = (figures * BINS).long().clamp_(max=BINS - 1)
        counts = (places[:, None] == torch.arange(BINS, device=places.device)).sum(0)  # bincount would wait for a GPU
        total = figures.sum()
        self._counts = counts if self._counts is None else self._counts + counts
        self._sum = total if self._sum is None else self._sum + total


class EpochRecord:
    """Means of loss terms and figures, distributions of reliability, and q̂ on the way."""

    def __init__(self) -> None:
        self.losses = Meter()
        self.figures = Meter()
        self._distributions: dict[str, dict[str, Distribution]] = {}
        self._heads: tuple[str, ...] = ()
        self._qhat: list[tuple[int, Tensor]] = []

    def add(self, out: StepLosses, labels: Tensor) -> None:
        """Add a batch with its labels (B,)."""
        samples = len(labels)
        self.losses.add(out.terms, samples)
        hits = (torch.stack(list(out.logits.values())).detach().argmax(-1) == labels).double().mean(-1)
        accuracy = {f"accuracy_{head}": hit for head, hit in zip(out.logits, hits.unbind(), strict=True)}
        self.figures.add(accuracy | out.diagnostics, samples)
        for kind, by_modality in out.distributions.items():
            kept = self._distributions.setdefault(kind, {})
            for modality, figures in by_modality.items():
                kept.setdefault(modality, Distribution()).add(figures)

    def trace(self, step: int, qhat: dict[str, Tensor]) -> None:
        """Note the quantiles after a step."""
        self._heads = tuple(qhat)
        self._qhat.append((step, torch.stack(list(qhat.values()))))

    def read(self, process: Process = ALONE) -> dict[str, Any]:
        """Return all of it, over all processes, as it stands in ``metrics.jsonl``."""
        found = {kind: {m: d.read(process) for m, d in by.items()} for kind, by in self._distributions.items()}
        means = {f"{kind}_{m}": mean for kind, by in found.items() for m, (mean, _) in by.items()}
        record: dict[str, Any] = {"loss": self.losses.read(process), "train": self.figures.read(process) | means}
        record |= {kind: {m: counts for m, (_, counts) in by.items()} for kind, by in found.items()}
        if self._qhat:
            values = torch.stack([qhat for _, qhat in self._qhat], 1).tolist()
            steps = [step for step, _ in self._qhat]
            record["trace"] = {"step": steps, "qhat": dict(zip(self._heads, values, strict=True))}
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on in the middle of an epoch."""
        return {
            "losses": self.losses.state_dict(),
            "figures": self.figures.state_dict(),
            "distributions": {k: {m: d.state_dict() for m, d in by.items()} for k, by in self._distributions.items()},
            "heads": self._heads,
            "qhat": [list(entry) for entry in self._qhat],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.losses.load_state_dict(state["losses"])
        self.figures.load_state_dict(state["figures"])
        for kind, by_modality in state["distributions"].items():
            for modality, saved in by_modality.items():
                distribution = self._distributions.setdefault(kind, {}).setdefault(modality, Distribution())
                distribution.load_state_dict(saved)
        self._heads = tuple(state["heads"])
        self._qhat = [(int(step), qhat) for step, qhat in state["qhat"]]
