"""Images: decoding, and the part of one that a model is shown.

A `View` is in shares of width and height, so that the same one cuts the same part out of a colour image and its depth.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.files import read_bytes
from cpsc_train.errors import UserError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of red, green and blue over ImageNet, of 255."""
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
"""Their standard deviation."""


def read_image(path: Path) -> Image:
    """Return an image as red, green and blue, turned as its camera says.

    Palettes, grey and CMYK are converted; 16 bits a channel are brought down to 8.

    Raises
    ------
    UserError
        If the file is missing or cannot be decoded, or Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415  # an extra
    except ImportError:
        raise UserError('Pillow is not installed: pip install "cpsc-train[vision]"') from None
    held = read_bytes(path)
    try:
        with Image.open(io.BytesIO(held)) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except Exception as error:  # a damaged file can make the decoders fail in any way
        raise UserError(f"{path}: is not a readable image ({reason(error)})") from None
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float32) / 257
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class View:
    """A rectangle of an image, perhaps mirrored.

    Parameters
    ----------
    left, top, right, bottom
        Edges, in [0, 1] of width and height.
    mirrored
        Whether left and right change places.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    mirrored: bool = False

    def of(self, image: Image, size: int) -> NDArray[np.float32]:
        """Return the rectangle scaled to ``size × size`` pixels, (3, size, size) in [0, 255]."""
        from PIL.Image import Resampling  # noqa: PLC0415

        width, height = image.size
        box = (self.left * width, self.top * height, self.right * width, self.bottom * height)
        cut = np.asarray(image.resize((size, size), Resampling.BILINEAR, box), dtype=np.float32)
        return np.ascontiguousarray((cut[:, ::-1] if self.mirrored else cut).transpose(2, 0, 1))


WHOLE = View()
"""All of an image; what is not square is squeezed."""


@dataclass(frozen=True)
class Cropping:
    """A square out of an image whose shorter side is first scaled to `resized` pixels.

    Parameters
    ----------
    resized, size
        Pixels of the shorter side, and of the square.
    """

    resized: int
    size: int

    def centred(self, image: Image) -> View:
        """Return the middle, for evaluation."""
        return self._at(image, 0.5, 0.5)

    def drawn(self, image: Image, generator: np.random.Generator) -> View:
        """Return a square anywhere, mirrored every other time, for training."""
        x, y, flip = generator.random(3)
        view = self._at(image, x, y)
        return View(view.left, view.top, view.right, view.bottom, mirrored=bool(flip < 0.5))

    def _at(self, image: Image, x: float, y: float) -> View:
        shorter = min(image.size)
        wide, high = (self.size / self.resized * shorter / side for side in image.size)
        left, top = x * (1 - wide), y * (1 - high)
        return View(left, top, left + wide, top + high)


def random_area(image: Image, generator: np.random.Generator) -> View:
    """Return a rectangle of 8 to 100 % of an image, its sides in proportion 3:4 to 4:3, mirrored every other time.

    Szegedy et al., Going Deeper with Convolutions, 2015. Where ten draws do not fit into the image, all of it.
    """
    width, height = image.size
    mirrored = bool(generator.random() < 0.5)
    for _ in range(10):
        area = width * height * generator.uniform(0.08, 1)
        proportion = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = np.sqrt(area * proportion) / width, np.sqrt(area / proportion) / height
        if wide <= 1 and high <= 1:
            left, top = generator.random() * (1 - wide), generator.random() * (1 - high)
            return View(left, top, left + wide, top + high, mirrored=mirrored)
    return View(mirrored=mirrored)
