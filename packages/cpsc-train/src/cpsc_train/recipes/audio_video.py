"""Sound and frames: CREMA-D, Kinetics-Sounds and AVE, each modality read by a ResNet18 from scratch.

The authors' code sets CREMA-D alone; the other two take its values, which is our choice.
"""

from __future__ import annotations

from dataclasses import replace

from cpsc_train.data import SplitConfig
from cpsc_train.data.adapters.ave import AVEConfig
from cpsc_train.data.adapters.crema_d import CremaDConfig
from cpsc_train.data.adapters.kinetics_sounds import KineticsSoundsConfig
from cpsc_train.data.families.clips import ClipConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.recipes.base import MODES, SHARED, Build, Recipe, Released, Source, image_noise
from cpsc_train.training import Mode, OptimizerConfig, RunConfig
from cpsc_train.training.optimizer import StepConfig

READING = Released(warmup=70, a=0.6, b=0.6, residual=0.05)


def _build(name: str, data: ClipConfig, sources: dict[str, Source]) -> Build:
    def build(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
        chosen = data if modalities is None else replace(data, modalities=modalities)
        config = RunConfig(
            recipe=name,
            mode=mode,
            epochs=150,
            batch_size=64,
            feature_dim=512,
            data=chosen,
            splits=SplitConfig(calibration=READING.shares(mode)),
            encoders={modality: ResNetConfig() for modality in chosen.modalities},
            method=READING.method(mode),
            optimizer=OptimizerConfig(kind="sgd", lr=1e-2, momentum=0.9, weight_decay=1e-4),
            schedule=StepConfig(every=70, factor=0.1),
            conformal=READING.conformal(mode),
            noise=image_noise(m for m in chosen.modalities if m == "video"),
        )
        return Recipe(config, MODES[mode] | sources)

    return build


ENCODERS: dict[str, Source] = {"encoders": "paper"}

crema_d = _build("crema-d", CremaDConfig(), SHARED | {"encoders": "released", "feature_dim": "released"})
kinetics_sounds = _build("kinetics-sounds", KineticsSoundsConfig(), ENCODERS)
ave = _build("ave", AVEConfig(), ENCODERS)
