"""Recipes for small pretrained encoders, on MVSA-Single and NYU Depth V2 at 128 pixels, for a run of minutes on a CPU.

The encoders come from installed packages (extra ``pretrained``). Their last blocks are trained; to train all of them:
``--set encoders.image.train=all --set encoders.text.train=all``.
"""

from __future__ import annotations

from typing import Any

from cpsc_train.data import DataConfig, Noise
from cpsc_train.data.adapters.mvsa_single import MVSASingleConfig
from cpsc_train.data.adapters.nyu_depth_v2 import NYUDepthV2Config
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.by_kind import PHOTOGRAPH, SENTENCE
from cpsc_train.packaged import MINILM
from cpsc_train.recipes.base import SHARED, Recipe, Source, assemble, choose, noise
from cpsc_train.training import ComputeConfig, Mode, OptimizerConfig
from cpsc_train.training.optimizer import CosineConfig

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
