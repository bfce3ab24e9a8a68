"""Image and text: MVSA-Single, read by a ResNet152 in three bands and by BERT.

Both are local: ``--set encoders.image.weights=resnet152.pth --set encoders.text.folder=DIR --set data.tokenizer=DIR``.
Without a folder the text encoder is a small one with random parameters, and words are hashed.
"""

from __future__ import annotations

from cpsc_train.data.adapters.mvsa_single import MVSASingleConfig
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.recipes.base import SHARED, Recipe, assemble, choose, noise
from cpsc_train.training import Mode, OptimizerConfig
from cpsc_train.training.optimizer import PlateauConfig


def mvsa_single(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe."""
    data = choose(MVSASingleConfig(), modalities)
    known: dict[str, EncoderConfig] = {"image": ResNetConfig(depth=152, regions=3), "text": TransformerConfig()}
    return assemble(
        mode,
        data,
        {modality: known[modality] for modality in data.modalities},
        warmup=7,
        a=0.1,
        b=0.6,
        sources=SHARED | {"encoders.image": "released", "patience": "released"},
        epochs=50,
        patience=15,
        batch_size=32,
        feature_dim=768,
        optimizer=OptimizerConfig(kind="adam", lr=3e-5, accumulate=24),
        schedule=PlateauConfig(factor=0.5, patience=2),
        noise=noise(m for m in data.modalities if m == "image"),
    )
