"""Recipes for the data sets of the paper, and for small pretrained encoders on two of them.

The authors' code sets CREMA-D, MVSA-Single, NYU Depth V2 and SUN RGB-D; Kinetics-Sounds and AVE take the values of
CREMA-D, which is our choice. Local encoders: ``--set encoders.image.weights=resnet152.pth --set
encoders.text.folder=DIR --set data.tokenizer=DIR`` on MVSA-Single (without a folder the text encoder is a small one
with random parameters, and words are hashed), and ``--set encoders.rgb.weights=resnet18.pth --set
encoders.depth.weights=resnet18.pth`` for colour and depth. The small encoders come from installed packages (extra
``pretrained``), for a run of minutes on a CPU. Their last blocks are trained; to train all of them:
``--set encoders.image.train=all --set encoders.text.train=all``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cpsc_train.data import DataConfig, Noise
from cpsc_train.data.adapters.ave import AVEConfig
from cpsc_train.data.adapters.crema_d import CremaDConfig
from cpsc_train.data.adapters.kinetics_sounds import KineticsSoundsConfig
from cpsc_train.data.adapters.mvsa_single import MVSASingleConfig
from cpsc_train.data.adapters.nyu_depth_v2 import NYUDepthV2Config
from cpsc_train.data.adapters.sun_rgbd import SUNRGBDConfig
from cpsc_train.data.families.clips import ClipConfig
from cpsc_train.data.families.rgbd import SceneConfig
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.by_kind import PHOTOGRAPH, SENTENCE
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.packaged import MINILM
from cpsc_train.recipes.base import SHARED, Recipe, Source, assemble, choose, noise
from cpsc_train.training import ComputeConfig, Mode, OptimizerConfig
from cpsc_train.training.optimizer import CosineConfig, PlateauConfig, StepConfig


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


def mvsa_single(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe."""
    data = choose(MVSASingleConfig(), modalities)
    known: dict[str, EncoderConfig] = {"image": ResNetConfig(depth=152, regions=3), "text": TransformerConfig()}
    return assemble(
        mode,
        data,
        {modality: known[modality] for modality in data.modalities},
        warmup=7,
        a=0.1,
        b=0.6,
        sources=SHARED | {"encoders.image": "released", "patience": "released"},
        epochs=50,
        patience=15,
        batch_size=32,
        feature_dim=768,
        optimizer=OptimizerConfig(kind="adam", lr=3e-5, accumulate=24),
        schedule=PlateauConfig(factor=0.5, patience=2),
        noise=noise(m for m in data.modalities if m == "image"),
    )


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


SIZE = 128
METHOD: dict[str, Source] = {
    key: source
    for key, source in SHARED.items()
    if key.startswith(("method.", "conformal.")) and key != "method.warmup"
}
"""Sources of the values that depend neither on the encoders nor on the number of epochs."""


def _small(name: str, mode: Mode, data: DataConfig, known: dict[str, EncoderConfig], **values: Any) -> Recipe:
    sources: dict[str, Source] = {f"encoders.{m}.{key}": "package" for m in known for key in ("weights", "folder")}
    return assemble(
        mode,
        data,
        {modality: known[modality] for modality in data.modalities},
        warmup=1,
        a=0.1,
        sources=METHOD | sources | {"data.tokenizer": "package"},
        recipe=name,
        batch_size=32,
        feature_dim=128,
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-2),
        schedule=CosineConfig(),
        compute=ComputeConfig(channels_last=True),  # 1.6 to 2 times as fast, also on a CPU
        **values,
    )


def mvsa_single_small(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for image and text: EfficientNet-lite0 and MiniLM."""
    data = choose(MVSASingleConfig(size=SIZE, tokenizer=MINILM, tokens=48), modalities)
    corrupted = (
        *noise(("image",), gaussian=(0.4,), pixels=(0.1,)),
        Noise(modality="text", kind="words", severity=0.5),
    )
    return _small(
        "mvsa-single-small", mode, data, {"image": PHOTOGRAPH, "text": SENTENCE}, b=0.6, epochs=6, noise=corrupted
    )


def nyu_depth_v2_small(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for colour and depth, with an EfficientNet-lite0 for each."""
    data = choose(NYUDepthV2Config(resized=round(SIZE * 256 / 224), size=SIZE), modalities)
    corrupted = noise(data.modalities, gaussian=(0.2,), pixels=(0.1,))
    return _small(
        "nyu-depth-v2-small", mode, data, {"rgb": PHOTOGRAPH, "depth": PHOTOGRAPH}, b=1.0, epochs=10, noise=corrupted
    )
