"""Default recipe: embedded handwritten digits, an image and feature vectors; half a minute on one core."""

from __future__ import annotations

from cpsc_train.data.adapters.handwritten import VIEWS, HandwrittenConfig
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.models.encoders.small_cnn import SmallCNNConfig
from cpsc_train.recipes.base import QUICK, Recipe, assemble, choose, noise
from cpsc_train.training import Mode


def handwritten(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; ``pix`` is read by a small CNN, every other view by an MLP."""
    data = choose(HandwrittenConfig(), modalities)
    images = [name for name in data.modalities if VIEWS[name].kind == "image"]
    vectors = [name for name in data.modalities if VIEWS[name].kind == "vector"]
    return assemble(
        mode,
        data,
        {name: SmallCNNConfig() if name in images else MLPConfig() for name in data.modalities},
        **QUICK,
        noise=(*noise(images, (0.5, 1.0), (0.1, 0.3)), *noise(vectors, (1.0, 2.0), ())),
    )
