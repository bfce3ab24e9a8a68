"""Default encoder of each kind of modality."""

from __future__ import annotations

from cpsc_train.data import Modality
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.encoders.efficientnet_lite import EfficientNetLite0Config
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.saved_features import SavedFeaturesConfig
from cpsc_train.models.encoders.scratch import MLPConfig, SmallCNNConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.packaged import MINILM

PHOTOGRAPH = EfficientNetLite0Config(train="last:4", dropout=0.3)
"""Pretrained encoder of images and frames, whose last blocks are trained."""
SENTENCE = TransformerConfig(folder=MINILM, pooling="mean", train="last:2", dropout=0.3)
"""Pretrained encoder of texts, whose last layers are trained; its tokenizer is in the same package."""
SMALL = 64
"""Longest side in pixels of an image for the small CNN."""


def encoder_of(modality: Modality, *, pretrained: bool = False) -> EncoderConfig:
    """Return the default encoder of a modality.

    An MLP for vectors, saved features and tiny images, a small CNN for images and spectrograms of up to 64 × 64 pixels,
    a ResNet18 for larger ones and frames, and a transformer for texts. With `pretrained`, images, frames and texts get
    `PHOTOGRAPH` and `SENTENCE`; there is no pretrained encoder of the other kinds.

    Examples
    --------
    >>> encoder_of(Modality(kind="vector", shape=(20,))).name, encoder_of(Modality(kind="image", shape=(1, 8, 8))).name
    ('mlp', 'small-cnn')
    """
    if modality.kind == "text":
        return SENTENCE if pretrained else TransformerConfig()
    if pretrained and modality.kind == "image":
        return PHOTOGRAPH
    if modality.depths:
        return SavedFeaturesConfig()
    if modality.kind == "vector" or len(modality.shape) < 3 or min(modality.shape[-2:]) < 4:
        return MLPConfig()
    if len(modality.shape) == 3 and max(modality.shape[1:]) <= SMALL:
        return SmallCNNConfig()
    return ResNetConfig()
