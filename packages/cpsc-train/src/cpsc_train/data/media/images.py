"""Images: decoding, and the part of one that a model is shown.

A `View` is in shares of width and height, so that the same one cuts the same part out of a colour image and its depth.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import MOST_PIXELS, PICTURES
from cpsc_train.errors import DataError, needs, out_of_memory, reason

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of red, green and blue over ImageNet, of 255."""
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
"""Their standard deviation."""


def read_image(path: Place) -> Image:
    """Return an image as red, green and blue, turned as its camera says.

    Palettes, grey and CMYK are converted; 16 bits a channel are brought down to 8.

    Raises
    ------
    UserError
        If the file is missing, too large or cannot be decoded, or Pillow is not installed.
    """
    image = _decoded(path)
    if image.mode.startswith("I"):
        from PIL import Image  # noqa: PLC0415

        grey = np.asarray(image, dtype=np.float32) / 257
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def read_deep(path: Place) -> NDArray[np.uint16]:
    """Return a grey image (height, width) of 16 bits, none of which is lost.

    Raises
    ------
    UserError
        As `read_image`, and if it has not 16 bits or not one channel.
    """
    image = _decoded(path)
    if not image.mode.startswith("I"):
        raise DataError(f"{path}: must be grey, of 16 bits, got an image of mode {image.mode}", "wrong form")
    return np.asarray(image).astype(np.uint16)


def _decoded(path: Place) -> Image:
    with needs("Pillow", extra="vision"):
        from PIL import Image, ImageOps  # noqa: PLC0415  # an extra
    held = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, or a size that is looked at here
            with Image.open(io.BytesIO(held), formats=PICTURES) as file:
                width, height = file.size
                if width * height <= MOST_PIXELS:
                    file.load()
                    return ImageOps.exif_transpose(file)
    except Exception as error:  # a damaged file can make the decoders fail in any way
        if out_of_memory(error):
            raise
        raise DataError(f"{path}: is not a readable image ({reason(error)})") from None
    raise DataError(f"{path}: has {width} × {height} pixels: scale it down", "wrong size")


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
        """Return the rectangle scaled to ``size × size`` pixels: (3, size, size) in [0, 255], or (1, size, size) of F.

        Depth as metres (mode F) keeps its precision.
        """
        from PIL.Image import Resampling  # noqa: PLC0415

        width, height = image.size
        box = (self.left * width, self.top * height, self.right * width, self.bottom * height)
        cut = np.asarray(image.resize((size, size), Resampling.BILINEAR, box), dtype=np.float32)
        cut = cut.reshape(size, size, -1)
        return np.ascontiguousarray((cut[:, ::-1] if self.mirrored else cut).transpose(2, 0, 1))

    def of_array(self, values: NDArray[Any], size: int) -> NDArray[np.float32]:
        """Return the same of an array (h, w, 3) uint8, or (h, w) or (h, w, c) float32, which keeps its precision."""
        from PIL import Image  # noqa: PLC0415

        if values.dtype == np.uint8:
            return self.of(Image.fromarray(np.asarray(values)), size)
        channels = np.asarray(values, dtype=np.float32).reshape(*values.shape[:2], -1)
        return np.concatenate([self.of(Image.fromarray(c), size) for c in channels.transpose(2, 0, 1)])


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

    def shown(self, values: NDArray[Any], generator: np.random.Generator | None) -> NDArray[np.float32]:
        """Return the middle of an array (h, w) or (h, w, c), or with a generator any square of it: (c, size, size)."""
        height, width = values.shape[:2]
        view = self.centred(width, height) if generator is None else self.drawn(width, height, generator)
        return view.of_array(values, self.size)

    def centred(self, width: int, height: int) -> View:
        """Return the middle, for evaluation."""
        return self._at(width, height, 0.5, 0.5)

    def drawn(self, width: int, height: int, generator: np.random.Generator) -> View:
        """Return a square anywhere, mirrored every other time, for training."""
        x, y, flip = generator.random(3)
        view = self._at(width, height, x, y)
        return View(view.left, view.top, view.right, view.bottom, mirrored=bool(flip < 0.5))

    def _at(self, width: int, height: int, x: float, y: float) -> View:
        shorter = min(width, height)
        wide, high = (self.size / self.resized * shorter / side for side in (width, height))
        left, top = x * (1 - wide), y * (1 - high)
        return View(left, top, left + wide, top + high)


def random_area(width: int, height: int, generator: np.random.Generator) -> View:
    """Return a rectangle of 8 to 100 % of an image, its sides in proportion 3:4 to 4:3, mirrored every other time.

    Szegedy et al., Going Deeper with Convolutions, 2015. Where ten draws do not fit into the image, all of it.
    """
    mirrored = bool(generator.random() < 0.5)
    for _ in range(10):
        area = width * height * generator.uniform(0.08, 1)
        proportion = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = np.sqrt(area * proportion) / width, np.sqrt(area / proportion) / height
        if wide <= 1 and high <= 1:
            left, top = generator.random() * (1 - wide), generator.random() * (1 - high)
            return View(left, top, left + wide, top + high, mirrored=mirrored)
    return View(mirrored=mirrored)
