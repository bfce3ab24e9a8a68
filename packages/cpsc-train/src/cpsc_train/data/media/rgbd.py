"""Colour and depth of a scene: what NYU Depth V2 and SUN RGB-D have in common, in the layout of derived copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Modality, check_modalities
from cpsc_train.data.media.files import check_root
from cpsc_train.data.media.images import Cropping, View, read_image
from cpsc_train.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Rows = NDArray[np.int64]
MODALITIES = ("rgb", "depth")
MEAN = (126.2505, 91.8255, 116.9685)
DEVIATION = (37.587, 49.725, 41.973)
PARTS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class SceneConfig(DataConfig):
    """What the data sets of colour and depth share."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of rgb, depth."""
    root: str
    """Holds ``{train,val,test}/CLASS/*.png``, colour in the left half and depth in the right one; ``val`` may be
    absent."""
    resized: int = 256
    """Pixels that the shorter side is scaled to."""
    size: int = 224
    """Pixels of the side of the square that is cut out: the middle in evaluation, anywhere in training, the same of
    both."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        if not 1 <= self.size <= self.resized:
            raise UserError(f"data.size must lie in 1…resized = {self.resized}, got {self.size}")


class Scenes(Dataset):
    """Images (3, size, size) of both modalities in [0, 255].

    Parameters
    ----------
    config
        Where, and sizes.
    classes
        Class names, which are the names of the folders, sorted.

    Raises
    ------
    UserError
        If there are no images, a folder is no class, or a class has no training images.
    """

    def __init__(self, config: SceneConfig, classes: Sequence[str]) -> None:
        root = check_root(config.root)
        self.classes = classes
        image = Modality(
            kind="image", shape=(3, config.size, config.size), bounds=(0.0, 255.0), mean=MEAN, deviation=DEVIATION
        )
        self.modalities = dict.fromkeys(config.modalities, image)
        self._size = config.size
        self._cropping = Cropping(config.resized, config.size)
        self._files: list[Path] = []
        parts: dict[str, Rows] = {}
        labels: list[int] = []
        for folder, part in PARTS.items():
            found = _images(root / folder, classes)
            if found:
                parts[part] = np.arange(len(self._files), len(self._files) + len(found))
                self._files += [file for file, _ in found]
                labels += [label for _, label in found]
        for part in ("train", "test"):
            if part not in parts:
                raise UserError(f"{root / part}: must hold a folder of PNG images for each class, and has none")
        self.labels = np.array(labels, dtype=np.int64)
        self.parts = parts
        self.ids = [file.relative_to(root).with_suffix("").as_posix() for file in self._files]

    def read(self, modality: str, rows: Rows, /) -> NDArray[np.float32]:
        """Return the middle of the images at `rows`."""
        halves = [_half(self._files[row], modality) for row in rows]
        return np.stack([self._cropping.centred(half).of(half, self._size) for half in halves])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[np.float32]:
        """Return a random square of the images at `rows`, the same of colour and depth."""
        halves = [_half(self._files[row], modality) for row in rows]
        views: list[View] = [self._cropping.drawn(h, g) for h, g in zip(halves, generators, strict=True)]
        return np.stack([view.of(half, self._size) for view, half in zip(views, halves, strict=True)])


def _images(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        return []
    found = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inner.name not in classes:
            raise UserError(f"{inner}: is not one of the {len(classes)} classes ({', '.join(classes)})")
        found += [(file, classes.index(inner.name)) for file in sorted(inner.glob("*.png"))]
    return found


def _half(path: Path, modality: str) -> Image:
    image = read_image(path)
    width, height = image.size
    if width < 1.2 * height:
        raise UserError(f"{path}: must hold colour and depth side by side, but is no wider than one: {width}×{height}")
    middle = width // 2
    return image.crop((0, 0, middle, height) if modality == "rgb" else (middle, 0, 2 * middle, height))
