"""The configuration that several commands start from: a recipe, and what the command line says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpsc_train.training import RunConfig


def from_recipe(
    name: str, *, modalities: str | None, root: str | None, settings: Sequence[str], **options: Any
) -> RunConfig:
    """Return a recipe on ``A,B`` of its modalities, its data below `root`, with ``key=value`` settings.

    Other options are those of `cpsc_train.recipes.recipe`.

    Raises
    ------
    UserError
        If a name is unknown, or a setting does not fit.
    """
    from cpsc_train.config import apply_overrides  # noqa: PLC0415  # slow to import
    from cpsc_train.recipes import recipe  # noqa: PLC0415
    from cpsc_train.training import RunConfig  # noqa: PLC0415

    chosen = None if modalities is None else tuple(modalities.split(","))
    table = recipe(name, modalities=chosen, **options).to_plain()
    where = [] if root is None else [f"data.root={root}"]
    return RunConfig.from_plain(apply_overrides(table, [*where, *settings]))
