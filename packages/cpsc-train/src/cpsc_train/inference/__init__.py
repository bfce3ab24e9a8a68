"""Inference variants: other ways to predict with a trained model, one module each, registered below."""

from cpsc_train.inference.base import Inference, InferenceConfig, Source, Trained, parse_inference
from cpsc_train.inference.dasp import DASPConfig
from cpsc_train.inference.read import READConfig
from cpsc_train.inference.trust import TrustConfig

InferenceConfig.register(TrustConfig, READConfig, DASPConfig)

__all__ = ["Inference", "InferenceConfig", "Source", "Trained", "parse_inference"]
