"""Sound and frames: CREMA-D, Kinetics-Sounds and AVE, each modality read by a ResNet18 from scratch.

The authors' code sets CREMA-D alone; the other two take its values, which is our choice.
"""

from __future__ import annotations

from functools import partial

from cpsc_train.data.adapters.ave import AVEConfig
from cpsc_train.data.adapters.crema_d import CremaDConfig
from cpsc_train.data.adapters.kinetics_sounds import KineticsSoundsConfig
from cpsc_train.data.families.clips import ClipConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.recipes.base import SHARED, Recipe, Source, assemble, choose, noise
from cpsc_train.training import Mode, OptimizerConfig
from cpsc_train.training.optimizer import StepConfig


def _clips(dataset: ClipConfig, sources: dict[str, Source], mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    data = choose(dataset, modalities)
    return assemble(
        mode,
        data,
        {modality: ResNetConfig() for modality in data.modalities},
        warmup=70,
        a=0.6,
        b=0.6,
        like="crema-d",
        sources=sources,
        epochs=150,
        batch_size=64,
        feature_dim=512,
        optimizer=OptimizerConfig(kind="sgd", lr=1e-2, momentum=0.9, weight_decay=1e-4),
        schedule=StepConfig(every=70, factor=0.1),
        noise=noise(m for m in data.modalities if m == "video"),
    )


crema_d = partial(_clips, CremaDConfig(), SHARED | {"encoders": "released", "feature_dim": "released"})
kinetics_sounds = partial(_clips, KineticsSoundsConfig(), {"encoders": "paper"})
ave = partial(_clips, AVEConfig(), {"encoders": "paper"})
