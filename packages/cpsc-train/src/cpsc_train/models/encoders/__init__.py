"""Encoders: one module each, registered in the list below."""

from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.encoders.efficientnet_lite import EfficientNetLite0Config
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.saved_features import SavedFeaturesConfig
from cpsc_train.models.encoders.scratch import MLPConfig, SmallCNNConfig, TemporalCNNConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.models.imported import ImportedConfig

EncoderConfig.register(
    EfficientNetLite0Config,
    ImportedConfig,
    MLPConfig,
    ResNetConfig,
    SavedFeaturesConfig,
    SmallCNNConfig,
    TemporalCNNConfig,
    TransformerConfig,
)
