"""Every method on the same data, encoders, optimizer, epochs, seeds and selection rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from cpsc_train.config import apply_overrides
from cpsc_train.config.choice import unknown
from cpsc_train.errors import UserError
from cpsc_train.experiments.ablation import Variant
from cpsc_train.methods import MethodConfig
from cpsc_train.training import RunConfig

ALL = "all"
"""Stands for every method."""


def contenders(
    base: RunConfig,
    methods: Sequence[str],
    more: Sequence[Variant] = (),
    tuned: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, RunConfig]:
    """Return the configurations to run, by method.

    Parameters
    ----------
    base
        What all have in common. The method that it names keeps the options that it has there; every other one has its
        defaults, with options that count epochs scaled to the length of the run.
    methods
        Names, or ``["all"]``.
    more
        Further rows, each a name and settings on top of `base`; ``method.name`` may be among them.
    tuned
        By method, ``key=value`` on top of what it would have.

    Raises
    ------
    UserError
        For an unknown method, a name that occurs twice, or a setting that does not fit.
    """
    members = MethodConfig.members
    found: dict[str, RunConfig] = {}
    for name in list(members) if list(methods) == [ALL] else methods:
        if name not in members:
            raise UserError(unknown("method", name, [ALL, *members]))
        if name in found:
            raise UserError(f"methods must be different, got {name} twice")
        own = base.method if name == base.method.name else MethodConfig.named(name).for_epochs(base.epochs)
        config = replace(base, method=own)
        if name in tuned:
            config = RunConfig.from_plain(apply_overrides(config.to_plain(), tuned[name]))
        found[name] = config
    for variant in more:
        if variant.name in found:
            raise UserError(f"methods and variants must be different, got {variant.name} twice")
        found[variant.name] = RunConfig.from_plain(apply_overrides(base.to_plain(), variant.settings))
    return found
