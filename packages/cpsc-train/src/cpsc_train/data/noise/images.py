"""Corruption of images (…, channels, height, width) in their own units: photographs, depth, and frames of a clip."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.modality import Modality
from cpsc_train.data.noise.base import Corruption
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

Values = NDArray[np.float32]


def _bounds(modality: Modality) -> tuple[float, float]:
    """Return the valid range; kinds that need it are refused without."""
    return modality.bounds or (0.0, 1.0)


def _blur(x: Values, severity: float, _generator: np.random.Generator, _modality: Modality, _scale: Scale) -> Values:
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  # slow to import

    sigma = severity * min(x.shape[-2:])
    blurred: Values = gaussian_filter(x, (0,) * (x.ndim - 2) + (sigma, sigma), mode="nearest")
    return blurred


def _darkness(x: Values, severity: float, _generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    low = np.float32(_bounds(modality)[0])
    return low + np.float32(1 - severity) * (x - low)


def _contrast(
    x: Values, severity: float, _generator: np.random.Generator, _modality: Modality, _scale: Scale
) -> Values:
    mean: Values = x.mean((-2, -1), keepdims=True, dtype=np.float32)
    return mean + np.float32(1 - severity) * (x - mean)


def _jpeg(x: Values, severity: float, _generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    low, high = _bounds(modality)
    levels = np.clip(np.rint((x - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    colour = x.shape[-3] == 3
    pictures = levels.reshape(-1, *x.shape[-3:]).transpose(0, 2, 3, 1) if colour else levels.reshape(-1, *x.shape[-2:])
    decoded = np.stack([_through_jpeg(picture, max(1, round(severity))) for picture in pictures])
    values = (decoded.transpose(0, 3, 1, 2) if colour else decoded).reshape(x.shape)
    return (low + values.astype(np.float32) * np.float32((high - low) / 255)).astype(np.float32)


def _through_jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a picture, (h, w) or (h, w, 3), after encoding and decoding."""
    try:
        from PIL import Image  # noqa: PLC0415  # an extra
    except ImportError:
        raise UserError("jpeg noise needs Pillow: python -m pip install 'cpsc-train[vision]'") from None
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as image:
        return np.asarray(image)


def _occlusion(x: Values, severity: float, generator: np.random.Generator, modality: Modality, _scale: Scale) -> Values:
    """Cover a rectangle of aspect ratio 1:2 to 2:1 relative to the image; a larger one contains a smaller one."""
    aspect = 2 ** generator.uniform(-1, 1)
    tall = min(1.0, math.sqrt(severity * aspect))
    tall = max(tall, severity)
    sizes = tall, severity / tall
    covered = x.copy()
    spans = []
    for length, fraction, place in zip(x.shape[-2:], sizes, generator.random(2), strict=True):
        extent = fraction * length
        start = place * (length - extent)
        spans.append(slice(round(start), round(start + extent)))
    covered[..., spans[0], spans[1]] = _bounds(modality)[0]
    return covered


BLUR = Corruption(
    name="blur",
    target="image",
    corrupt=_blur,
    summary="Gaussian blur, like defocus",
    severity="σ, as a fraction of the shorter side",
    levels=(0.01, 0.02, 0.03, 0.05, 0.08),
)
DARKNESS = Corruption(
    name="darkness",
    target="image",
    corrupt=_darkness,
    summary="every value is scaled towards black (depth: towards 0 m)",
    severity="fraction of the brightness that is lost",
    levels=(0.3, 0.5, 0.7, 0.8, 0.9),
    needs_bounds=True,
)
CONTRAST = Corruption(
    name="contrast",
    target="image",
    corrupt=_contrast,
    summary="every value is scaled towards the mean of its channel in the image",
    severity="fraction of the contrast that is lost",
    levels=(0.6, 0.7, 0.8, 0.9, 0.95),
)
JPEG = Corruption(
    name="jpeg",
    target="image",
    corrupt=_jpeg,
    summary="the image is compressed as JPEG by Pillow, with 8 bits per value over the valid range",
    severity="quality, rounded to a whole number of at least 1; lower is worse",
    levels=(25, 18, 15, 10, 7),
    within=(0, 95),
    needs_bounds=True,
)
OCCLUSION = Corruption(
    name="occlusion",
    target="image",
    corrupt=_occlusion,
    summary="a random rectangle becomes black, the same in all frames of a clip",
    severity="fraction of the area",
    levels=(0.1, 0.2, 0.3, 0.45, 0.6),
    needs_bounds=True,
)
