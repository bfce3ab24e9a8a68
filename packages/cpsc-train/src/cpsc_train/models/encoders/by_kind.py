"""Default encoder of each kind of modality."""

from __future__ import annotations

from cpsc_train.data import Modality
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.saved_features import SavedFeaturesConfig
from cpsc_train.models.encoders.small_cnn import SmallCNNConfig
from cpsc_train.models.encoders.transformer import TransformerConfig

SMALL = 64
"""Longest side in pixels of an image for the small CNN."""


def encoder_of(modality: Modality) -> EncoderConfig:
    """Return the default encoder of a modality.

    An MLP for vectors, saved features and tiny images, a small CNN for images and spectrograms of up to 64 × 64 pixels,
    a ResNet18 for larger ones and frames, and a transformer for texts; none is pretrained.

    Examples
    --------
    >>> encoder_of(Modality(kind="vector", shape=(20,))).name, encoder_of(Modality(kind="image", shape=(1, 8, 8))).name
    ('mlp', 'small-cnn')
    """
    if modality.kind == "text":
        return TransformerConfig()
    if modality.depths:
        return SavedFeaturesConfig()
    if modality.kind == "vector" or len(modality.shape) < 3 or min(modality.shape[-2:]) < 4:
        return MLPConfig()
    if len(modality.shape) == 3 and max(modality.shape[1:]) <= SMALL:
        return SmallCNNConfig()
    return ResNetConfig()
