"""Colour and depth: NYU Depth V2 and SUN RGB-D, each modality read by a ResNet18 that has seen ImageNet.

Its parameters are a local file: ``--set encoders.rgb.weights=resnet18.pth --set encoders.depth.weights=resnet18.pth``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cpsc_train.data.adapters.nyu_depth_v2 import NYUDepthV2Config
from cpsc_train.data.adapters.sun_rgbd import SUNRGBDConfig
from cpsc_train.data.families.rgbd import SceneConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.recipes.base import SHARED, Recipe, assemble, choose, noise
from cpsc_train.training import Mode, OptimizerConfig
from cpsc_train.training.optimizer import PlateauConfig


def _rgbd(dataset: SceneConfig, values: dict[str, Any], mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    data = choose(dataset, modalities)
    return assemble(
        mode,
        data,
        {modality: ResNetConfig(dropout=0.3) for modality in data.modalities},
        sources=SHARED | {"encoders": "released", "feature_dim": "released"},
        epochs=50,
        batch_size=64,
        optimizer=OptimizerConfig(kind="adam", lr=2.4e-4, weight_decay=1e-5),
        schedule=PlateauConfig(factor=0.3, patience=10),
        noise=noise(data.modalities),
        **values,
    )


nyu_depth_v2 = partial(_rgbd, NYUDepthV2Config(), {"warmup": 3, "a": 0.1, "b": 1.0, "feature_dim": 128})
sun_rgbd = partial(_rgbd, SUNRGBDConfig(), {"warmup": 5, "a": 0.5, "b": 0.1, "feature_dim": 256})
