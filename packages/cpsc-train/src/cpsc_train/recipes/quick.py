"""Recipes whose runs take minutes on one core: small data sets, and samples and features of your own.

The default is ``handwritten``, embedded digits, an image and feature vectors. Modalities and encoders of ``table`` and
``arrays`` follow from the file.
"""

from __future__ import annotations

from dataclasses import replace

from cpsc_train.config import override
from cpsc_train.data import Noise
from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.data.adapters.av_digits import AVDigitsConfig
from cpsc_train.data.adapters.avletters import AVLettersConfig
from cpsc_train.data.adapters.handwritten import VIEWS, HandwrittenConfig
from cpsc_train.data.adapters.table import TableConfig
from cpsc_train.data.adapters.utd_mhad import UTDMHADConfig
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.scratch import MLPConfig, SmallCNNConfig, TemporalCNNConfig
from cpsc_train.recipes.base import QUICK, Data, Recipe, assemble, choose, noise
from cpsc_train.training import ComputeConfig, Mode, OptimizerConfig
from cpsc_train.training.optimizer import CosineConfig


def handwritten(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; ``pix`` is read by a small CNN, every other view by an MLP."""
    data = choose(HandwrittenConfig(), modalities)
    images = [name for name in data.modalities if VIEWS[name].kind == "image"]
    vectors = [name for name in data.modalities if VIEWS[name].kind == "vector"]
    return assemble(
        mode,
        data,
        {name: SmallCNNConfig() if name in images else MLPConfig() for name in data.modalities},
        **QUICK,
        noise=(*noise(images, (0.5, 1.0), (0.1, 0.3)), *noise(vectors, (1.0, 2.0), ())),
    )


def av_digits(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; both modalities are read by a small CNN."""
    data = choose(AVDigitsConfig(), modalities)
    conditions = (*noise(["audio"], (0.3, 1.0), ()), *noise(["image"], (0.3, 1.0), (0.1,)))
    recipe = assemble(
        mode,
        data,
        {name: SmallCNNConfig(channels=8) for name in data.modalities},
        **QUICK,
        epochs=20,
        noise=tuple(one for one in conditions if one.modality in data.modalities),
    )
    if mode != "ours":
        return recipe
    # Chosen on validation rows: heads that see recomposed features alone lose a third of the sound.
    return replace(recipe, config=override(recipe.config, {"method.heads_learn_on": "features"}))


VIDEOS = ("depth", "lips")


def utd_mhad(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; a small CNN reads the frames of depth as channels, a temporal CNN the other two."""
    return _recordings(choose(UTDMHADConfig(), modalities), mode)


def avletters(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; a small CNN reads the frames of the lips as channels, a temporal CNN the MFCC."""
    return _recordings(choose(AVLettersConfig(), modalities), mode)


def _recordings(data: Data, mode: Mode) -> Recipe:
    videos = [name for name in data.modalities if name in VIDEOS]
    series = [name for name in data.modalities if name not in VIDEOS]
    encoders: dict[str, EncoderConfig] = {
        name: SmallCNNConfig() if name in videos else TemporalCNNConfig() for name in data.modalities
    }
    conditions: tuple[Noise, ...] = (*noise(videos, (0.2, 0.4), ()), *noise(series, (1.0, 2.0), ()))
    return assemble(
        mode,
        data,
        encoders,
        **QUICK,
        epochs=40,
        noise=conditions,
    )


def table(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe: a small CNN for images and sound, a transformer for texts, an MLP for vectors."""
    return assemble(
        mode,
        choose(TableConfig(), modalities),
        {},
        **QUICK | {"compute": ComputeConfig(threads=1, workers=0)},  # decoded samples stay in memory
        epochs=20,
    )


def table_pretrained(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe: EfficientNet-lite0 for images and videos and MiniLM for texts, whose last layers are trained.

    Both come from installed packages (extra ``pretrained``). Sound and vectors are read as in `table`.
    """
    return assemble(
        mode,
        choose(TableConfig(pretrained=True), modalities),
        {},
        **QUICK | {"warmup": 1, "compute": ComputeConfig(channels_last=True, workers=0)},
        recipe="table-pretrained",
        epochs=8,
        batch_size=32,
        feature_dim=128,
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-2),
        schedule=CosineConfig(),
    )


def _arrays(name: str, data: ArraysConfig, mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    recipe = assemble(
        mode,
        choose(data, modalities),
        {},
        **QUICK,
        epochs=30,
    )
    return replace(recipe, config=replace(recipe.config, recipe=name))


def arrays(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe; vectors are read by an MLP, images by a small CNN."""
    return _arrays("arrays", ArraysConfig(), mode, modalities)


def mvsa_single_features(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for features of MVSA-Single, with an MLP of one hidden layer for each modality.

    They are one file with labels and parts, or a folder of files beside the lists.
    """
    data = ArraysConfig(
        modalities=("image", "text"),
        root="data/mvsa-single-features.npz",
        samples=("train.jsonl", "dev.jsonl", "test.jsonl"),
    )
    return _arrays("mvsa-single-features", data, mode, modalities)


def nyu_depth_v2_features(mode: Mode, modalities: tuple[str, ...] | None) -> Recipe:
    """Return the recipe for features of NYU Depth V2, with an MLP of one hidden layer for each modality.

    They are one file with labels and parts, or a folder of files beside the list of scenes.
    """
    data = ArraysConfig(
        modalities=("rgb", "depth"),
        root="data/nyu-depth-v2-features.npz",
        samples=("nyu_scenes.tsv",),
        label="label,scene10",
    )
    return _arrays("nyu-depth-v2-features", data, mode, modalities)
