"""The training run whose cost is computed, simulated and measured: CPSC on images and texts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch

from cpsc_train.data import Batch, DataConfig, Dataset, Modality, Preprocessing
from cpsc_train.data.strings import StringArray
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.training import ComputeConfig, RunConfig
from cpsc_train.training.distributed import current
from cpsc_train.training.objective import Objective
from cpsc_train.training.setup import Setup

Sharding = Literal["off", "encoders"]
MODALITIES = ("image", "text")
HEADS = (*MODALITIES, FUSED)


@dataclass(frozen=True, kw_only=True)
class GeneratedConfig(DataConfig, name="generated"):
    """A data set without content: ids and labels of some rows."""

    modalities: tuple[str, ...] = MODALITIES
    rows: int = 1_000
    classes: int = 10

    def load(self) -> Dataset:
        return Generated(self)


class Generated(Dataset):
    """Ids as long as typical file names, and labels in turn; samples are never read."""

    def __init__(self, config: GeneratedConfig) -> None:
        self.classes = tuple(map(str, range(config.classes)))
        self.ids = StringArray.of(f"sample-{row:010d}" for row in range(config.rows))
        self.labels = np.arange(config.rows) % config.classes
        self.modalities = {m: Modality(kind="vector", shape=(1,)) for m in config.modalities}

    def read(self, modality: str, rows: Any, /) -> Any:
        raise NotImplementedError


DataConfig.register(GeneratedConfig)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Sizes of the data and of the model: a ResNet, a transformer, a linear head each, and RSC."""

    rows: int = 10_000_000
    """Training rows N."""
    calibration: int = 100_000
    """Calibration rows."""
    evaluated: int = 100_000
    """Rows of the part that is evaluated."""
    classes: int = 10_000
    """Classes C."""
    batch: int = 64
    """Rows a process in a step."""
    dim: int = 512
    """Feature width d."""
    depth: Literal[18, 50] = 50
    """Layers of the ResNet."""
    side: int = 224
    """Height and width of an image, pixels; a multiple of 32."""
    layers: int = 12
    """Layers of the transformer, whose width is d, so that it needs no projection."""
    attention_heads: int = 8
    tokens: int = 128
    """Tokens of a text."""
    vocabulary: int = 30_522
    components: int = 10
    """Components of RSC."""

    def config(self, world: int, sharding: Sharding) -> RunConfig:
        """Return the configuration of a run of `world` processes."""
        return RunConfig(
            recipe="scale",
            data=GeneratedConfig(rows=self.rows, classes=self.classes),
            encoders={
                "image": ResNetConfig(depth=self.depth),
                "text": TransformerConfig(
                    layers=self.layers, width=self.dim, attention_heads=self.attention_heads, dropout=0
                ),
            },
            method=CPSCConfig(parts="both", components=self.components),
            feature_dim=self.dim,
            batch_size=self.batch * world,
            compute=ComputeConfig(device="cpu", sharding=sharding),
        )

    @property
    def modalities(self) -> dict[str, Modality]:
        """The inputs of the encoders."""
        image = Modality(kind="image", shape=(3, self.side, self.side), mean=(0.0,), std=(1.0,))
        return {"image": image, "text": Modality(kind="text", shape=(self.tokens,), vocabulary=self.vocabulary)}

    def objective(self, config: RunConfig) -> Objective:
        """Return the model and the method, with random parameters."""
        model = MultimodalClassifier(
            self.modalities, config.encoders, fusion=config.fusion, dim=self.dim, classes=self.classes
        )
        method = config.method.build(model, MODALITIES)
        method.on_fit_start(self.rows)
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # the features are not changed in place
        return Objective(model, method, config.compute, torch.device("cpu"))

    def setup(self, config: RunConfig, objective: Objective) -> Setup:
        """Return the parts of a run that a step needs, in this process of the job."""
        absent: Any = SimpleNamespace()
        labels = np.zeros(0, dtype=np.int64)
        preprocessing: Preprocessing = absent
        return Setup(config, current(), objective.device, absent, labels, absent, preprocessing, objective, ())

    def generated(self, rows: int) -> Batch:
        """Return random rows."""
        inputs = {
            "image": torch.randn(rows, 3, self.side, self.side),
            "text": torch.randint(1, self.vocabulary, (rows, self.tokens)),
        }
        return Batch((), torch.randint(0, self.classes, (rows,)), inputs, torch.arange(rows))


FULL = Workload()
SMALL = Workload(
    rows=1_000,
    calibration=64,
    evaluated=64,
    classes=10,
    batch=4,
    dim=64,
    depth=18,
    side=32,
    layers=2,
    attention_heads=2,
    tokens=8,
    vocabulary=100,
    components=4,
)


def thresholds() -> dict[str, torch.Tensor]:
    """Return a quantile for each head, as after warm-up."""
    return {head: torch.tensor(0.5) for head in HEADS}
