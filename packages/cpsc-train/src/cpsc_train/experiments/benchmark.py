"""Contenders of a benchmark: every method on the same data, encoders, optimizer, epochs, seeds and selection rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cpsc_train.config import apply_settings, override
from cpsc_train.errors import UserError
from cpsc_train.experiments.ablation import NONE, Settings
from cpsc_train.methods import MethodConfig
from cpsc_train.training import RunConfig

ALL = "all"
"""Stands for every method."""


def contenders(
    base: RunConfig,
    methods: Sequence[str],
    more: Settings = NONE,
    tuned: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, RunConfig]:
    """Return the configurations to run, by method.

    Parameters
    ----------
    base
        Configuration shared by all. The method that it names keeps its options; every other one has its defaults, with
        options that count epochs scaled to the length of the run.
    methods
        Names, or ``["all"]``.
    more
        Further rows: settings on top of `base`; ``method.name`` may be among them.
    tuned
        By method, values by dotted key on top of its own.

    Raises
    ------
    UserError
        For an unknown method, a name that occurs twice, or a value that does not fit.
    """
    result: dict[str, RunConfig] = {}
    for name in list(MethodConfig.installed()) if list(methods) == [ALL] else methods:
        if name in result:
            raise UserError(f"methods must be different, got {name} twice")
        method = base.method if name == base.method.name else MethodConfig.named(name).for_epochs(base.epochs)
        result[name] = override(replace(base, method=method), tuned.get(name, {}))
    for name, settings in more.items():
        if name in result:
            raise UserError(f"methods and variants must be different, got {name} twice")
        result[name] = apply_settings(base, settings)
    return result
