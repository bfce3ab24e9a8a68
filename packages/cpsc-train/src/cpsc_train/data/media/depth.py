"""Depth images in the forms a model can receive: metres, one channel three times, or HHA."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
