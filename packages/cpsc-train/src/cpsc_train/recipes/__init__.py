"""Recipes: functions that return a complete configuration, each with a line in `RECIPES`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import tomli_w

from cpsc_train.config import unknown
from cpsc_train.config.choice import load_plugin, plugin_names
from cpsc_train.errors import UserError
from cpsc_train.recipes.base import Build, Recipe
from cpsc_train.recipes.published import (
    ave,
    crema_d,
    kinetics_sounds,
    mvsa_single,
    mvsa_single_small,
    nyu_depth_v2,
    nyu_depth_v2_small,
    sun_rgbd,
)
from cpsc_train.recipes.quick import (
    arrays,
    av_digits,
    avletters,
    handwritten,
    mvsa_single_features,
    nyu_depth_v2_features,
    table,
    table_pretrained,
    utd_mhad,
)
from cpsc_train.training import Mode, RunConfig

RECIPES: dict[str, Build] = {
    "arrays": arrays,
    "av-digits": av_digits,
    "ave": ave,
    "avletters": avletters,
    "crema-d": crema_d,
    "handwritten": handwritten,
    "kinetics-sounds": kinetics_sounds,
    "mvsa-single": mvsa_single,
    "mvsa-single-features": mvsa_single_features,
    "mvsa-single-small": mvsa_single_small,
    "nyu-depth-v2": nyu_depth_v2,
    "nyu-depth-v2-features": nyu_depth_v2_features,
    "nyu-depth-v2-small": nyu_depth_v2_small,
    "sun-rgbd": sun_rgbd,
    "table": table,
    "table-pretrained": table_pretrained,
    "utd-mhad": utd_mhad,
}
"""The recipes of this package, by name."""
PLUGINS = "cpsc_train.recipes"
"""Entry-point group of functions that build further recipes, from a mode and modalities as `Build` does."""


def recipe(name: str, *, mode: Mode = "ours", modalities: tuple[str, ...] | None = None, **changes: Any) -> RunConfig:
    """Return the configuration of a recipe.

    Parameters
    ----------
    name
        One of `names`.
    mode
        Reading of the method: ``ours``, the ``paper``'s to the letter, or that of the ``released`` code.
    modalities
        Modalities of the data set to use, in order. If None, those of the recipe.
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
    """Return every value of a recipe as a configuration file, with a comment where a value is not ours."""
    shown = _recipe(name, mode, None)
    lines, table = [f"# recipe {name}, mode {mode}; values without a mark are our choice"], ""
    for line in tomli_w.dumps(shown.config.to_plain()).splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        key = line.partition(" = ")[0]
        dotted = f"{table}.{key}" if table else key
        marks = [source for start, source in shown.sources.items() if f"{dotted}.".startswith(f"{start}.")]
        lines.append(f"{line}  # {marks[-1]}" if marks and " = " in line else line)
    absent = _absent(shown.config)
    return "\n".join([*lines, "", f"# not set: {', '.join(absent)}" if absent else "# everything is set", ""])


def names() -> list[str]:
    """Return the names of all recipes, those of plug-ins last."""
    return list(dict.fromkeys([*RECIPES, *plugin_names(PLUGINS)]))


def _recipe(name: str, mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    if name not in RECIPES and name not in names():
        raise UserError(unknown("recipe", name, names()))
    build: Build = RECIPES[name] if name in RECIPES else load_plugin(PLUGINS, name)
    return build(mode, modalities)


def _absent(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [key for name, item in value.items() for key in _absent(item, f"{path}.{name}".strip("."))]
    if not is_dataclass(value):
        return [path] if value is None else []
    return [key for f in fields(value) for key in _absent(getattr(value, f.name), f"{path}.{f.name}".strip("."))]


__all__ = ["RECIPES", "Recipe", "annotated", "names", "recipe"]
