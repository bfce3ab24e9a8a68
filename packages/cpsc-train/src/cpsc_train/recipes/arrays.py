"""Recipes for arrays of your own and saved features; modalities and encoders follow from the file."""

from __future__ import annotations

from dataclasses import replace

from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.recipes.base import QUICK, Recipe, assemble, choose
from cpsc_train.training import Mode


def _arrays(name: str, data: ArraysConfig, mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    recipe = assemble(
        mode,
        choose(data, modalities),
        {},
        **QUICK,
        epochs=30,
    )
    return replace(recipe, config=replace(recipe.config, recipe=name))


def arrays(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; vectors are read by an MLP, images by a small CNN."""
    return _arrays("arrays", ArraysConfig(), mode, modalities)


def mvsa_single_features(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for features of MVSA-Single, with an MLP of one hidden layer for each modality.

    They are one file with labels and parts, or a folder of files beside the lists.
    """
    data = ArraysConfig(
        modalities=("image", "text"),
        root="data/mvsa-single-features.npz",
        samples=("train.jsonl", "dev.jsonl", "test.jsonl"),
    )
    return _arrays("mvsa-single-features", data, mode, modalities)


def nyu_depth_v2_features(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for features of NYU Depth V2, with an MLP of one hidden layer for each modality.

    They are one file with labels and parts, or a folder of files beside the list of scenes.
    """
    data = ArraysConfig(
        modalities=("rgb", "depth"),
        root="data/nyu-depth-v2-features.npz",
        samples=("nyu_scenes.tsv",),
        label="label,scene10",
    )
    return _arrays("nyu-depth-v2-features", data, mode, modalities)
