"""Models: one encoder a modality, one head a modality, one fusion."""

from cpsc_train.config import discover
from cpsc_train.models import encoders
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.fusion import FUSED, FusionConfig, LateConfig
from cpsc_train.models.gate import GateConfig
from cpsc_train.models.multimodal import MultimodalClassifier

discover(encoders)

__all__ = ["FUSED", "EncoderConfig", "FusionConfig", "GateConfig", "LateConfig", "MultimodalClassifier"]
