"""The embedded default: handwritten digits, an image beside feature vectors, a minute on two cores."""

from __future__ import annotations

from cpsc_train.data import Noise
from cpsc_train.data.adapters.handwritten import VIEWS, HandwrittenConfig
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.models.encoders.mlp import MLPConfig
from cpsc_train.models.encoders.small_cnn import SmallCNNConfig
from cpsc_train.training import RunConfig


def handwritten(modalities: tuple[str, ...] | None) -> RunConfig:
    """Return the configuration; ``pix`` is read by a small CNN, every other view by an MLP."""
    data = HandwrittenConfig() if modalities is None else HandwrittenConfig(modalities=modalities)
    images = [name for name in data.modalities if VIEWS[name].kind == "image"]
    vectors = [name for name in data.modalities if VIEWS[name].kind == "vector"]
    noise = [
        *(Noise(modality=name, kind="gaussian", severity=severity) for name in images for severity in (0.5, 1.0)),
        *(
            Noise(modality=name, kind="salt-and-pepper", severity=severity)
            for name in images
            for severity in (0.1, 0.3)
        ),
        *(Noise(modality=name, kind="gaussian", severity=severity) for name in vectors for severity in (1.0, 2.0)),
    ]
    return RunConfig(
        recipe="handwritten",
        threads=1,
        data=data,
        encoders={name: SmallCNNConfig() if name in images else MLPConfig() for name in data.modalities},
        method=CPSCConfig(),
        noise=tuple(noise),
    )
