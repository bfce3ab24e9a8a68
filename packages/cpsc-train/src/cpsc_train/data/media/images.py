"""Decoding of images and of depth, and the crops of them that a model receives.

A `View` is relative to width and height, so one view crops the same part out of a colour image and its depth.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import MOST_PIXELS, PICTURES
from cpsc_train.errors import DataError, needs, out_of_memory, reason

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = (".jpg", ".jpeg", ".png")
"""Suffixes of images in a folder."""
IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of red, green and blue over ImageNet, out of 255."""
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Their standard deviation."""


def read_image(path: Place) -> Image:
    """Return an image in RGB, rotated by its EXIF orientation.

    Palettes, grey and CMYK are converted; 16 bits per channel are reduced to 8. Raises UserError if the file is
    missing, too large or cannot be decoded, or Pillow is not installed.
    """
    image = _decode(path)
    if image.mode.startswith("I"):
        from PIL import Image  # noqa: PLC0415

        grey = np.asarray(image, dtype=np.float32) / 257
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def read_deep(path: Place) -> NDArray[np.uint16]:
    """Return a grey image (height, width) in full 16 bits.

    Raises UserError as `read_image`, and if it does not have 16 bits and one channel.
    """
    image = _decode(path)
    if not image.mode.startswith("I"):
        raise DataError(f"{path}: must be grey, of 16 bits, got an image of mode {image.mode}", "wrong form")
    return np.asarray(image).astype(np.uint16)


def _decode(path: Place) -> Image:
    with needs("Pillow", extra="vision"):
        from PIL import Image, ImageOps  # noqa: PLC0415  # an extra
    content = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, or a size that is checked here
            with Image.open(io.BytesIO(content), formats=PICTURES) as file:
                width, height = file.size
                if width * height <= MOST_PIXELS:
                    file.load()
                    return ImageOps.exif_transpose(file)
    except Exception as error:  # a damaged file can make decoders fail in any way
        if out_of_memory(error):
            raise
        raise DataError(f"{path}: is not a readable image ({reason(error)})") from None
    raise DataError(f"{path}: has {width} × {height} pixels: scale it down", "wrong size")


@dataclass(frozen=True)
class View:
    """A rectangle of an image, with edges in [0, 1] of width and height, optionally mirrored left to right."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    mirrored: bool = False

    def of(self, image: Image, size: int) -> NDArray[np.float32]:
        """Return the rectangle at ``size × size`` pixels: (3, size, size) in [0, 255], or (1, size, size) of mode F.

        Depth in metres (mode F) keeps its precision.
        """
        from PIL.Image import Resampling  # noqa: PLC0415

        width, height = image.size
        box = (self.left * width, self.top * height, self.right * width, self.bottom * height)
        pixels = np.asarray(image.resize((size, size), Resampling.BILINEAR, box), dtype=np.float32)
        pixels = pixels.reshape(size, size, -1)
        return np.ascontiguousarray((pixels[:, ::-1] if self.mirrored else pixels).transpose(2, 0, 1))

    def of_array(self, values: NDArray[Any], size: int) -> NDArray[np.float32]:
        """Return the rectangle of an array: (h, w, 3) uint8, or (h, w) or (h, w, c) float32 in full precision."""
        from PIL import Image  # noqa: PLC0415

        if values.dtype == np.uint8:
            return self.of(Image.fromarray(np.asarray(values)), size)
        channels = np.asarray(values, dtype=np.float32).reshape(*values.shape[:2], -1)
        return np.concatenate([self.of(Image.fromarray(c), size) for c in channels.transpose(2, 0, 1)])


WHOLE = View()
"""The whole image; one that is not square is squeezed."""


@dataclass(frozen=True)
class Cropping:
    """A square of `size` pixels out of an image whose shorter side is first scaled to `resized` pixels."""

    resized: int
    size: int

    def crop(self, values: NDArray[Any], generator: np.random.Generator | None) -> NDArray[np.float32]:
        """Return a square (c, size, size) of an array (h, w) or (h, w, c).

        If `generator` is None, it is the centre, for evaluation; otherwise, for training, a random square, mirrored
        with probability ½.
        """
        height, width = values.shape[:2]
        if generator is None:
            return self._at(width, height, 0.5, 0.5).of_array(values, self.size)
        x, y, flip = generator.random(3)
        return replace(self._at(width, height, x, y), mirrored=bool(flip < 0.5)).of_array(values, self.size)

    def _at(self, width: int, height: int, x: float, y: float) -> View:
        shorter = min(width, height)
        wide, high = (self.size / self.resized * shorter / side for side in (width, height))
        left, top = x * (1 - wide), y * (1 - high)
        return View(left, top, left + wide, top + high)


def random_area(width: int, height: int, generator: np.random.Generator) -> View:
    """Return a rectangle of 8 to 100 % of an image, with sides 3:4 to 4:3, mirrored with probability ½.

    Szegedy et al., Going Deeper with Convolutions, 2015. If ten draws do not fit into the image, all of it.
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


Metres = NDArray[np.float32]
Form = Literal["repeat", "metres", "hha"]
FARTHEST = 10.0
"""Metres, to which larger depths are clipped."""
Camera = tuple[float, float, float, float]
"""Focal lengths along x and y and principal point, in pixels."""


def convert(metres: Metres, form: Form, camera: Camera) -> NDArray[np.float32]:
    """Return depth in metres (h, w), 0 where it is unknown, in another form.

    ``metres``: (h, w) in [0, 10]; ``repeat``: (h, w, 3) in [0, 255], where 255 is 10 m, not rounded; ``hha``: see
    `hha`, which alone needs the camera.
    """
    if form == "metres":
        return np.clip(metres, 0, FARTHEST)
    if form == "hha":
        return hha(metres, camera)
    scaled = np.clip(metres, 0, FARTHEST) * np.float32(255 / FARTHEST)
    return np.repeat(scaled[..., None], 3, axis=2)


def hha(metres: Metres, camera: Camera) -> NDArray[np.float32]:
    """Return horizontal disparity, height above the lowest point, and angle to gravity, (h, w, 3) in [0, 255].

    Gupta et al., Learning Rich Features from RGB-D Images, ECCV 2014, section 3, in the usual units: 310 over metres,
    centimetres, and degrees from straight up (a floor has 0) plus 38. Normals are those of neighbouring pixels rather
    than of fitted planes. Pixels without depth are 0 in all channels. O(h·w).
    """
    known = metres > 0
    points = _points(metres, camera)
    normals = _normals(points)
    sure = known & np.isfinite(normals).all(-1)
    up = _up(normals[sure]) if sure.any() else np.array([0.0, -1.0, 0.0])
    height = points @ up
    lowest = np.percentile(height[known], 1) if known.any() else 0.0
    angle = np.degrees(np.arccos(np.clip(np.nan_to_num(normals) @ up, -1, 1)))
    with np.errstate(divide="ignore"):
        disparity = np.where(known, 1 / np.where(known, metres, 1), 0) * 310
    channels = np.stack([disparity, (height - lowest) * 100, angle + 38], -1)
    return np.where(known[..., None], np.clip(channels, 0, 255), 0).astype(np.float32)


def _points(metres: Metres, camera: Camera) -> NDArray[np.float64]:
    """Return the position of each pixel in metres, (h, w, 3): x to the right, y down, z ahead."""
    fx, fy, cx, cy = camera
    rows, columns = np.indices(metres.shape, dtype=np.float64)
    z = metres.astype(np.float64)
    return np.stack([(columns - cx) * z / fx, (rows - cy) * z / fy, z], -1)


def _normals(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit normals towards the camera, NaN where the surface has none."""
    across, along = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(along, across)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.asarray(np.where((normal * points).sum(-1, keepdims=True) > 0, -normal, normal))


def _up(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the direction against gravity, to which most surfaces are parallel or orthogonal.

    Starts from straight up in the image; five iterations use surfaces within 45°, five more those within 15°.
    """
    up = np.array([0.0, -1.0, 0.0])
    for limit in (45.0,) * 5 + (15.0,) * 5:
        cosine = np.abs(normals @ up)
        along = normals[cosine > np.cos(np.radians(limit))]
        across = normals[cosine < np.sin(np.radians(limit))]
        if not len(along) and not len(across):
            break
        spread = across.T @ across - along.T @ along
        direction = np.linalg.eigh(spread)[1][:, 0]  # least of the walls, most of floors and tables
        up = direction if direction @ up > 0 else -direction
    return up
