"""Figures of one epoch, accumulated on the device and copied to the host when they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cpsc_train.methods import StepLosses
from cpsc_train.models import COMPLETE, Present, mean_present
from cpsc_train.training.distributed import Process

ROUNDING = 1e-6
"""Distance from 0 and 1 at which a value counts as 0 or 1."""


class _Accumulator:
    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update({name: state[name] for name in vars(self)})


class Meter(_Accumulator):
    """Means of named 0-d figures over the samples of an epoch."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._samples: Tensor | int = 0

    def add(self, figures: dict[str, Tensor], samples: int, counts: Mapping[str, Tensor] = COMPLETE) -> None:
        """Add the means of a batch, weighted by its size; every call must have the same names.

        `counts` are the numbers of samples, 0-d, of figures that are means over fewer than `samples`.
        """
        if not figures:
            return
        sizes: Tensor | int = samples
        if counts:
            everything = torch.full_like(next(iter(counts.values())), samples)
            sizes = torch.stack([counts.get(name, everything) for name in figures])
        weighted = torch.stack([figure.detach() for figure in figures.values()]).double() * sizes
        self._names = tuple(figures)
        self._sums = weighted if self._sums is None else self._sums + weighted
        self._samples = self._samples + sizes

    def read(self, process: Process) -> dict[str, float]:
        """Return the means over all processes."""
        if self._sums is None:
            return {}
        samples = torch.as_tensor(self._samples).to(self._sums).expand_as(self._sums)
        sums, sizes = process.sum(torch.stack([self._sums, samples])).tolist()
        return {name: value / max(size, 1) for name, value, size in zip(self._names, sums, sizes, strict=True)}


class Spread(NamedTuple):
    """Figures of values in [0, 1]."""

    mean: float
    sd: float
    """Standard deviation, with n in its denominator."""
    at_one: float
    """Fraction of values that are 1, up to rounding."""
    at_zero: float
    """Fraction of values that are 0, up to rounding."""


class Distribution(_Accumulator):
    """Spread of values in [0, 1]; negative ones do not count."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        """Sums (5,) of the values, their squares, and whether they count, are 1, and are 0."""

    def add(self, values: Tensor) -> None:
        """Add values of any shape."""
        values = values.detach().flatten().double()
        counted = values >= 0
        values = values.clamp(min=0)
        ends = [values >= 1 - ROUNDING, (values <= ROUNDING) & counted]
        sums = torch.stack([values, values.square(), *(mask.double() for mask in (counted, *ends))]).sum(1)
        self._sums = sums if self._sums is None else self._sums + sums

    def read(self, process: Process) -> Spread:
        """Return the spread over all processes."""
        if self._sums is None:
            return Spread(0.0, 0.0, 0.0, 0.0)
        total, squares, count, ones, zeros = process.sum(self._sums).tolist()
        mean, square, at_one, at_zero = (value / max(count, 1) for value in (total, squares, ones, zeros))
        return Spread(mean, max(square - mean**2, 0.0) ** 0.5, at_one, at_zero)


class EpochRecord:
    """Mean losses and figures, distributions such as that of reliability, and the in-loop quantiles of an epoch."""

    def __init__(self) -> None:
        self._losses = Meter()
        self._figures = Meter()
        self._distributions: dict[tuple[str, str], Distribution] = {}
        self._trace: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, out: StepLosses, labels: Tensor, present: Present = COMPLETE) -> None:
        """Add a batch with labels (B,); `present` are the samples that have a modality, {m: (B,)}."""
        self._losses.add(out.terms, len(labels))
        right = torch.stack(list(out.logits.values())).detach().argmax(-1) == labels
        hits = dict(zip(out.logits, right.double().mean(-1).unbind(), strict=True))
        hits |= {m: mean_present(right[i].double(), present[m]) for i, m in enumerate(out.logits) if m in present}
        accuracy = {f"accuracy_{head}": hit for head, hit in hits.items()}
        counts = {f"accuracy_{m}": mask.sum() for m, mask in present.items() if m in out.logits}
        self._figures.add(accuracy | out.diagnostics, len(labels), counts)
        for kind, by_modality in out.distributions.items():
            for modality, values in by_modality.items():
                self._distributions.setdefault((kind, modality), Distribution()).add(values)

    def trace(self, step: int, qhat: dict[str, Tensor]) -> None:
        """Add the in-loop quantiles after a step."""
        self._trace.append((step, {head: value.clone() for head, value in qhat.items()}))

    def read(self, process: Process) -> dict[str, Any]:
        """Return the record over all processes, as in a line of ``metrics.jsonl``."""
        record: dict[str, Any] = {"loss": self._losses.read(process), "train": self._figures.read(process)}
        for (kind, modality), distribution in self._distributions.items():
            spread = distribution.read(process)
            record["train"][f"{kind}_{modality}"] = spread.mean
            record.setdefault("spread", {}).setdefault(kind, {})[modality] = spread._asdict()
        if self._trace:
            heads = list(self._trace[0][1])
            values = torch.stack([torch.stack([qhat[head] for _, qhat in self._trace]) for head in heads]).tolist()
            steps = [step for step, _ in self._trace]
            record["trace"] = {"step": steps, "in_loop_quantile": dict(zip(heads, values, strict=True))}
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return the state within an epoch."""
        return {
            "losses": self._losses.state_dict(),
            "figures": self._figures.state_dict(),
            "distributions": {key: each.state_dict() for key, each in self._distributions.items()},
            "trace": list(self._trace),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self._losses.load_state_dict(state["losses"])
        self._figures.load_state_dict(state["figures"])
        self._distributions = {key: Distribution() for key in state["distributions"]}
        for key, saved in state["distributions"].items():
            self._distributions[key].load_state_dict(saved)
        self._trace = list(state["trace"])


def redistributed(states: Sequence[dict[str, Any]], *, first: bool) -> dict[str, Any]:
    """Return the state of a process from those that another number of processes saved.

    The first process has their sums, the others have zeros.
    """
    sums: list[dict[Any, dict[str, Any]]] = [
        state["distributions"] | {name: state[name] for name in ("losses", "figures")} for state in states
    ]
    keys = dict.fromkeys(key for one in sums for key in one)
    total = {key: _total([one[key] for one in sums if key in one], first=first) for key in keys}
    named = {name: total.pop(name) for name in ("losses", "figures")}
    return named | {"distributions": total, "trace": states[0]["trace"]}


def _total(states: list[dict[str, Any]], *, first: bool) -> dict[str, Any]:
    filled = [state for state in states if state["_sums"] is not None] or states[:1]
    counted = [name for name in ("_sums", "_samples") if filled[0].get(name) is not None]
    return filled[0] | {name: sum(state[name] for state in filled) * int(first) for name in counted}
