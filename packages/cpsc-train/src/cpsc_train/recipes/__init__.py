"""Recipes: one file a data set that returns a complete configuration. A new file here is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import fields, is_dataclass, replace
from typing import Any

import tomli_w

from cpsc_train.config.choice import unknown
from cpsc_train.errors import UserError
from cpsc_train.recipes.base import Build, Recipe
from cpsc_train.training import Mode, RunConfig


def _discover() -> dict[str, Build]:
    found: dict[str, Build] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found |= getattr(importlib.import_module(module.name), "RECIPES", {})
    return dict(sorted(found.items()))


RECIPES: dict[str, Build] = _discover()
"""By name; every module of this folder that has a ``RECIPES`` adds to it."""


def recipe(name: str, *, mode: Mode = "ours", modalities: tuple[str, ...] | None = None, **changes: Any) -> RunConfig:
    """Return the configuration of a recipe.

    Parameters
    ----------
    name
        One of `RECIPES`.
    mode
        Whose reading of the method: ``ours``, the ``paper``'s to the letter, or that of the ``released`` code.
    modalities
        Which modalities of the data set to use, in order; the recipe's own choice if absent.
    **changes
        Fields of the configuration to replace, such as ``epochs=10``.

    Raises
    ------
    UserError
        For an unknown recipe, modality or field; names the closest one.

    Examples
    --------
    >>> recipe("handwritten", epochs=12).data.modalities
    ('pix', 'fou')
    """
    known = [field.name for field in fields(RunConfig)]
    for key in changes:
        if key not in known:
            raise UserError(unknown("key", key, known))
    return replace(_recipe(name, mode, modalities).config, **changes)


def annotated(name: str, *, mode: Mode = "ours") -> str:
    """Return every value of a recipe as TOML, with a comment where a value is not ours; a configuration file."""
    found = _recipe(name, mode, None)
    lines, table = [f"# recipe {name}, mode {mode}; values without a mark are our choice"], ""
    for line in tomli_w.dumps(found.config.to_plain()).splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        key = line.partition(" = ")[0]
        dotted = f"{table}.{key}" if table else key
        marks = [source for start, source in found.sources.items() if f"{dotted}.".startswith(f"{start}.")]
        lines.append(f"{line}  # {marks[-1]}" if marks and " = " in line else line)
    absent = _absent(found.config)
    return "\n".join([*lines, "", f"# not set: {', '.join(absent)}" if absent else "# everything is set", ""])


def _recipe(name: str, mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    if name not in RECIPES:
        raise UserError(unknown("recipe", name, list(RECIPES)))
    return RECIPES[name](mode, modalities)


def _absent(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [key for name, item in value.items() for key in _absent(item, f"{path}.{name}".strip("."))]
    if not is_dataclass(value):
        return [path] if value is None else []
    return [key for f in fields(value) for key in _absent(getattr(value, f.name), f"{path}.{f.name}".strip("."))]


__all__ = ["RECIPES", "Recipe", "annotated", "recipe"]
