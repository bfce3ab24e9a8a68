"""Which parts of CPSC matter: one option at a time is changed, the rest stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cpsc_train.config import apply_overrides
from cpsc_train.config.choice import unknown
from cpsc_train.errors import UserError
from cpsc_train.training import RunConfig


@dataclass(frozen=True)
class Variant:
    """A name and what it sets.

    Parameters
    ----------
    name
        Name in tables and of the folder.
    settings
        ``key=value`` on top of the configuration that is ablated.
    """

    name: str
    settings: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``NAME: key=value key=value``.

        Examples
        --------
        >>> Variant.parse("literal: method.residual=1.0 method.divergence=kl").settings
        ('method.residual=1.0', 'method.divergence=kl')
        """
        name, colon, settings = text.partition(":")
        if not colon or not name.strip() or not settings.split():
            raise UserError(f"a variant must read 'NAME: key=value key=value', got {text!r}")
        return cls(name.strip(), tuple(settings.split()))


def _each(key: str, values: Iterable[object]) -> Callable[[RunConfig], list[Variant]]:
    label = key.rpartition(".")[2]
    return lambda _: [Variant(f"{label} {value}", (f"{key}={value}",)) for value in values]


def _warmup(config: RunConfig) -> list[Variant]:
    epochs = sorted({1, max(1, config.epochs // 20), config.epochs // 4, config.epochs // 2} - {0})
    return [Variant(f"warm-up {n}", (f"method.warmup={n}",)) for n in epochs]


AXES: dict[str, Callable[[RunConfig], list[Variant]]] = {
    "parts": lambda _: [
        Variant("joint", ("method.name=joint",)),
        Variant("neither (joint + unimodal)", ("method.name=joint-unimodal",)),
        Variant("GSC only", ("method.rsc=false",)),
        Variant("RSC only", ("method.gsc=false",)),
    ],
    "refresh": _each("conformal.refresh", ["exact", "rolling", "interval:5", "interval:20", "epoch"]),
    "warm-up": _warmup,
    "optimizer": lambda _: [
        Variant("SGD", ("optimizer.kind=sgd", "optimizer.lr=0.02")),
        Variant("Adagrad", ("optimizer.kind=adagrad", "optimizer.lr=0.01")),
        Variant("AdamW", ("optimizer.kind=adamw", "optimizer.weight_decay=0.01")),
    ],
    "components": _each("method.components", [5, 20]),
    "top-k": _each("method.top_k", [1, 5, 10]),
    "alpha": _each("conformal.alpha", [0.02, 0.05, 0.2, 0.3]),
    "heads": _each("method.heads_learn_on", ["recomposed", "features"]),
    "judge": _each("method.judge", ["conformal", "temperature", "mc-dropout", "ensemble"]),
    "inference": _each("method.inference", ["features", "mean", "collaborative"]),
}
"""By name, the variants along one axis, given the configuration that is ablated."""


def variants(base: RunConfig, axes: Sequence[str], more: Sequence[Variant] = ()) -> dict[str, RunConfig]:
    """Return the configurations to run, ``full`` first.

    Parameters
    ----------
    base
        What is ablated.
    axes
        Names in `AXES`.
    more
        Further variants.

    Returns
    -------
    dict
        By name; a variant that changes nothing is left out, since it is ``full``.

    Raises
    ------
    UserError
        For an unknown axis, or a setting that does not fit.
    """
    found = {"full": base}
    for axis in axes:
        if axis not in AXES:
            raise UserError(unknown("axis", axis, list(AXES)))
    for variant in [*(v for axis in axes for v in AXES[axis](base)), *more]:
        config = RunConfig.from_plain(apply_overrides(base.to_plain(), variant.settings))
        if config not in found.values():
            found[variant.name] = config
    return found
