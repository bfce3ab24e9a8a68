"""Models: one encoder a modality, one head a modality, one fusion."""

import cpsc_train.models.encoders  # noqa: F401  # registers the encoders
from cpsc_train.models.depths import depth_widths, model_taps
from cpsc_train.models.encoder import EncoderConfig
from cpsc_train.models.fusion import FUSED, FusionConfig, LateConfig
from cpsc_train.models.multimodal import MultimodalClassifier
from cpsc_train.models.presence import (
    COMPLETE,
    Present,
    fill_absent,
    mean_present,
    numbers_present,
    only_present,
    per_sample,
    softmax_present,
    stacked,
)

__all__ = [
    "COMPLETE",
    "FUSED",
    "EncoderConfig",
    "FusionConfig",
    "LateConfig",
    "MultimodalClassifier",
    "Present",
    "depth_widths",
    "fill_absent",
    "mean_present",
    "model_taps",
    "numbers_present",
    "only_present",
    "per_sample",
    "softmax_present",
    "stacked",
]
