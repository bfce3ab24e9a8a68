"""Colour and depth: NYU Depth V2 and SUN RGB-D, each modality read by a ResNet18 that has seen ImageNet.

Its parameters are a local file: ``--set encoders.rgb.weights=resnet18.pth --set encoders.depth.weights=resnet18.pth``.
"""

from __future__ import annotations

from dataclasses import replace

from cpsc_train.data import SplitConfig
from cpsc_train.data.adapters.nyu_depth_v2 import NYUDepthV2Config
from cpsc_train.data.adapters.sun_rgbd import SUNRGBDConfig
from cpsc_train.data.families.rgbd import SceneConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.recipes.base import MODES, SHARED, Build, Recipe, Released, image_noise
from cpsc_train.training import Mode, OptimizerConfig, RunConfig
from cpsc_train.training.optimizer import PlateauConfig


def _build(name: str, data: SceneConfig, reading: Released, feature_dim: int) -> Build:
    def build(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
        chosen = data if modalities is None else replace(data, modalities=modalities)
        config = RunConfig(
            recipe=name,
            mode=mode,
            epochs=50,
            batch_size=64,
            feature_dim=feature_dim,
            data=chosen,
            splits=SplitConfig(calibration=reading.shares(mode)),
            encoders={modality: ResNetConfig(dropout=0.3) for modality in chosen.modalities},
            method=reading.method(mode),
            optimizer=OptimizerConfig(kind="adam", lr=2.4e-4, weight_decay=1e-5),
            schedule=PlateauConfig(factor=0.3, patience=10),
            conformal=reading.conformal(mode),
            noise=image_noise(chosen.modalities),
        )
        return Recipe(config, MODES[mode] | SHARED | {"encoders": "released", "feature_dim": "released"})

    return build


nyu_depth_v2 = _build(
    "nyu-depth-v2", NYUDepthV2Config(), Released(warmup=3, a=0.1, b=1.0, residual=0.05), feature_dim=128
)
sun_rgbd = _build("sun-rgbd", SUNRGBDConfig(), Released(warmup=5, a=0.5, b=0.1, residual=0.05), feature_dim=256)
