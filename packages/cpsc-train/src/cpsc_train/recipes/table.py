"""Recipes for a table of samples of your own; modalities, encoders and classes follow from the table."""

from __future__ import annotations

from cpsc_train.data.adapters.table import TableConfig
from cpsc_train.recipes.base import QUICK, Recipe, assemble, choose
from cpsc_train.training import ComputeConfig, Mode, OptimizerConfig
from cpsc_train.training.optimizer import CosineConfig


def table(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe: a small CNN for images and sound, a transformer for texts, an MLP for vectors."""
    return assemble(
        mode,
        choose(TableConfig(), modalities),
        {},
        **QUICK | {"compute": ComputeConfig(threads=1, workers=0)},  # decoded samples stay in memory
        epochs=20,
    )


def table_pretrained(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe: EfficientNet-lite0 for images and videos and MiniLM for texts, whose last layers are trained.

    Both come from installed packages (extra ``pretrained``). Sound and vectors are read as in `table`.
    """
    return assemble(
        mode,
        choose(TableConfig(pretrained=True), modalities),
        {},
        **QUICK | {"warmup": 1, "compute": ComputeConfig(channels_last=True, workers=0)},
        recipe="table-pretrained",
        epochs=8,
        batch_size=32,
        feature_dim=128,
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-2),
        schedule=CosineConfig(),
    )
