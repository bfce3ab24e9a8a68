"""Recipes: one function a data set that returns a complete configuration."""

from __future__ import annotations

from collections.abc import Callable

from cpsc_train.config.choice import unknown
from cpsc_train.errors import UserError
from cpsc_train.recipes.handwritten import handwritten
from cpsc_train.training import RunConfig

RECIPES: dict[str, Callable[[tuple[str, ...] | None], RunConfig]] = {"handwritten": handwritten}
"""By name: from the modalities to use (``None``: the recipe's own) to a configuration."""


def recipe(name: str, *, modalities: tuple[str, ...] | None = None) -> RunConfig:
    """Return the configuration of a recipe.

    Parameters
    ----------
    name
        One of `RECIPES`.
    modalities
        Which modalities of the data set to use, in order; the recipe's own choice if absent.

    Raises
    ------
    UserError
        For an unknown recipe or modality; names the closest one.

    Examples
    --------
    >>> recipe("handwritten").data.modalities
    ('pix', 'fou')
    """
    if name not in RECIPES:
        raise UserError(unknown("recipe", name, list(RECIPES)))
    return RECIPES[name](modalities)


__all__ = ["RECIPES", "recipe"]
