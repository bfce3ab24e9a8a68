"""Images are turned as their camera says, in every format that can say it."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.data.media.images import read_image

Image = pytest.importorskip("PIL.Image", reason="images are read by Pillow")

ROW_AND_COLUMN = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}
"""By number, the sides of the scene that row 0 and column 0 of the file are: EXIF 2.32, tag 274."""
SCENE = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [255, 255, 0]]], np.uint8)


def stored(orientation):
    """Return what a camera stores of the scene."""
    row, column = ROW_AND_COLUMN[orientation]
    scene = SCENE.repeat(16, 0).repeat(16, 1)
    scene = scene[::-1] if "b" in (row, column) else scene
    scene = scene[:, ::-1] if "r" in (row, column) else scene
    return scene.swapaxes(0, 1) if row in "lr" else scene


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", ROW_AND_COLUMN)
def test_every_orientation_shows_the_scene(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"png": {}, "jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}[suffix]
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored(orientation)).save(path, exif=exif, **options)
    shown = np.asarray(read_image(path)).astype(int)
    np.testing.assert_allclose(shown[8::16, 8::16], SCENE, atol=3)
