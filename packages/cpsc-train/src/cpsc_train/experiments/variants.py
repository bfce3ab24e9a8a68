"""Variants of a configuration; an ablation changes one option at a time, a benchmark the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cpsc_train.config import override, unknown
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.training import RunConfig, reconfigured, with_method

Values = dict[str, Any]
"""Values of a configuration by dotted key."""
Settings = Mapping[str, Sequence[str]]
"""Variants of the command line: ``key=value`` settings by name."""
NONE: Settings = MappingProxyType({})


def parse_variants(texts: Iterable[str]) -> dict[str, list[str]]:
    """Read ``NAME: key=value key=value`` texts.

    Raises UserError for anything else, and for a name that occurs twice.

    Examples
    --------
    >>> parse_variants(["literal: method.name=cpsc-literal method.divergence=js"])
    {'literal': ['method.name=cpsc-literal', 'method.divergence=js']}
    """
    result: dict[str, list[str]] = {}
    for text in texts:
        name, colon, settings = text.partition(":")
        name = name.strip()
        if not colon or not name or not settings.split():
            raise UserError(f"a variant must read 'NAME: key=value key=value', got {text!r}")
        if name in result:
            raise UserError(f"variants must be different, got {name} twice")
        result[name] = settings.split()
    return result


def _refresh(_: RunConfig) -> dict[str, Values]:
    policies = ("exact", "rolling", "interval:5", "interval:20", "epoch")
    return {f"refresh {policy}": {"conformal.refresh": policy} for policy in policies}


def _warmup(config: RunConfig) -> dict[str, Values]:
    epochs = sorted({1, max(1, config.epochs // 20), config.epochs // 4, config.epochs // 2} - {0})
    return {f"warm-up {n}": {"method.warmup": n} for n in epochs}


OPTIMIZERS: dict[str, Values] = {
    "SGD": {"optimizer.kind": "sgd", "optimizer.lr": 0.02},
    "Adam": {"optimizer.kind": "adam", "optimizer.lr": 0.001},
    "Adagrad": {"optimizer.kind": "adagrad", "optimizer.lr": 0.01},
    "AdamW": {"optimizer.kind": "adamw", "optimizer.weight_decay": 0.01},
}


def _optimizers(config: RunConfig) -> dict[str, Values]:
    """Return each optimizer with the method and, as ``NAME, neither``, with neither RSC nor GSC."""
    result: dict[str, Values] = {}
    for name, values in OPTIMIZERS.items():
        own = values["optimizer.kind"] == config.optimizer.kind  # which keeps its learning rate
        result[name] = {} if own else values
        result[f"{name}, neither"] = result[name] | {"method.name": "joint-unimodal"}
    return result


AXES: dict[str, Callable[[RunConfig], dict[str, Values]]] = {
    "parts": lambda _: {
        "joint": {"method.name": "joint"},
        "neither (joint + unimodal)": {"method.name": "joint-unimodal"},
        "GSC only": {"method.parts": "gsc"},
        "RSC only": {"method.parts": "rsc"},
    },
    "refresh": _refresh,
    "warm-up": _warmup,
    "optimizer": _optimizers,
}
"""By name, the variants along one axis for the configuration that is ablated."""
REFERENCES: dict[str, dict[str, str]] = {"optimizer": {name: f"{name}, neither" for name in OPTIMIZERS}}
"""By axis, the variant that another one of the axis is compared with, where that is not the first."""


def ablated(config: RunConfig) -> RunConfig:
    """Return the configuration that an ablation starts from: with both parts of ``cpsc`` if it has neither."""
    neither = config.to_plain()["method"].get("parts") == "neither"
    return override(config, {"method.parts": "both"}) if neither else config


def variants(base: RunConfig, axes: Sequence[str], more: Settings = NONE) -> dict[str, RunConfig]:
    """Return the configurations to run, ``full`` (which is `base`) first; one that changes nothing is left out.

    `axes` are names in `AXES`, and `more` further variants. Raises UserError for an unknown axis, or a value that does
    not fit.
    """
    for axis in axes:
        if axis not in AXES:
            raise UserError(unknown("axis", axis, list(AXES)))
    configs = {name: reconfigured(base, values=values) for axis in axes for name, values in AXES[axis](base).items()}
    configs |= {name: reconfigured(base, settings) for name, settings in more.items()}
    result = {"full": base}
    for name, config in configs.items():
        if config not in result.values():
            result[name] = config
    return result


def references(base: RunConfig, axes: Sequence[str], configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """Return the variants to compare others with, by the names that they have in `configs`, from `variants`."""

    def name_of(axis: str, variant: str) -> str:
        config = reconfigured(base, values=AXES[axis](base)[variant])
        return next(name for name, other in configs.items() if other == config)

    return {
        name_of(axis, variant): name_of(axis, other)
        for axis in axes
        for variant, other in REFERENCES.get(axis, {}).items()
    }


def contenders(
    base: RunConfig,
    methods: Sequence[str],
    more: Settings = NONE,
    tuned: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, RunConfig]:
    """Return the configurations to run, by method.

    The method that `base` names keeps its options; every other one has its defaults, with options that count epochs
    scaled to the length of the run. `methods` are names, or ``["all"]``; `more` are further rows, settings on top of
    `base`, ``method.name`` among them if need be; `tuned` has, by row, values by dotted key on top of its own. A
    further row ``NAME, …`` that was not tuned itself has the values of NAME. Raises UserError for an unknown method, a
    name that occurs twice, or a value that does not fit.
    """
    result: dict[str, RunConfig] = {}
    for name in list(MethodConfig.installed()) if list(methods) == ["all"] else methods:
        if name in result:
            raise UserError(f"methods must be different, got {name} twice")
        method = base.method if name == base.method.name else MethodConfig.named(name).for_epochs(base.epochs)
        result[name] = override(with_method(base, method), tuned.get(name, {}))
    for name, settings in more.items():
        if name in result:
            raise UserError(f"methods and variants must be different, got {name} twice")
        values = tuned.get(name, tuned.get(name.partition(",")[0], {}))
        result[name] = override(reconfigured(base, settings), values)
    return result
