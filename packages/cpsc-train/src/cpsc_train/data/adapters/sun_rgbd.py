"""SUN RGB-D: 19 kinds of rooms, in colour and depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.rgbd import Scene, SceneConfig, Scenes, Separate, derived
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.images import Camera, Metres
from cpsc_train.data.media.video import listed
from cpsc_train.data.storage.files import Place, check_root, read_text
from cpsc_train.data.storage.matlab import load
from cpsc_train.errors import DataError, UserError

CLASSES = (
    *("bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area"),
    *("dining_room", "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre"),
    *("library", "living_room", "office", "rest_space", "study_space"),
)
OFFICIAL = "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
FARTHEST = 8.0
"""Metres, to which the toolbox of the data set clips depth."""


@dataclass(frozen=True, kw_only=True)
class SUNRGBDConfig(SceneConfig, name="sun-rgbd"):
    """The distribution, or a derived copy; the 19 classes of the scene classification benchmark.

    In the distribution a scene is a folder with ``image/*.jpg``, ``depth_bfx/*.png`` and ``scene.txt``. Its division is
    ``SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat``; without it the fractions of the splits apply. Scenes of other
    classes are left out. A copy holds ``{train,val,test}/CLASS/*.png`` with colour in the left half and depth in the
    right half, or ``{rgb,depth}/{train,val,test}/CLASS/``; ``val`` may be absent.
    """

    root: str = "data/sun_rgbd"
    """Folder of the data set."""

    def load(self) -> Dataset:
        root = check_root(self.root)
        faults = Faults()
        if any((root / name).is_dir() for name in ("train", "rgb")):
            scenes, classes = derived(root, CLASSES, faults)
            return Scenes(self, scenes, classes, faults)
        top = next(path for path in (root / "SUNRGBD", root) if path.is_dir())
        return Scenes(self, list(_native(root, top, faults)), CLASSES, faults)


def _native(root: Place, top: Place, faults: Faults) -> Iterator[Scene]:
    official = root / OFFICIAL
    parts = _official(official) if official.is_file() else None
    if parts is None:
        faults.note(f"{official}: is not there, so the fractions of the splits apply", "no division")
    folders = dict(_walk(top, ()))
    if not folders:
        raise UserError(f"{top}: holds no folder with a scene.txt, and no folder train of a derived copy")
    for name in parts or {}:
        if name not in folders:
            faults.add(name, DataError(f"{top}/{name}: is missing, which {official.name} lists", "missing"))
    for name, folder in folders.items():
        if parts is not None and name not in parts:
            faults.dropped.append(f"{name} (not in {official.name})")
            continue
        try:
            label = read_text(folder / "scene.txt").strip()
            pair = _pair(folder)
        except DataError as error:
            faults.add(name, error)
            continue
        if label in CLASSES:
            yield Scene(name, CLASSES.index(label), "" if parts is None else parts[name], pair, pair.files())
        else:
            faults.dropped.append(f"{name} ({label}, which is none of the 19 classes)")


def _pair(folder: Place) -> Separate:
    colour = listed(folder / "image")
    deep = listed(folder / "depth_bfx") or listed(folder / "depth")
    for files, name in ((colour, "image"), (deep, "depth_bfx")):
        if len(files) != 1:
            raise DataError(f"{folder / name}: must hold one image, and has {len(files)}", "missing")
    return Separate(colour[0], deep[0], metres, partial(_camera, folder / "intrinsics.txt"))


def metres(bits: NDArray[np.uint16]) -> Metres:
    """Return depth in metres, stored in millimetres with the bits rotated by three places."""
    rotated = (bits >> np.uint16(3)) | (bits << np.uint16(13))
    return np.minimum(rotated.astype(np.float32) / 1000, np.float32(FARTHEST))


def _camera(path: Place) -> Camera:
    text = read_text(path)
    try:
        fx, _, cx, _, fy, cy, *_ = map(float, text.split())
    except ValueError:
        raise DataError(f"{path}: must hold the nine numbers of a matrix of intrinsics, got {text[:80]!r}") from None
    return fx, fy, cx, cy


def _official(path: Place) -> dict[str, str]:
    """Return the part of each scene by its path from the folder of the data set."""
    lists = load(path, ["alltrain", "alltest"])
    parts: dict[str, str] = {}
    for variable, part in (("alltrain", "train"), ("alltest", "test")):
        for text in map(str, lists[variable]):
            name = text.replace("\\", "/").rpartition("SUNRGBD/")[2].strip("/")
            if parts.setdefault(name, part) != part:
                raise DataError(f"{path}: {name!r} is in both parts", "id in two splits")
    return parts


def _walk(folder: Place, above: tuple[str, ...]) -> Iterator[tuple[str, Place]]:
    """Yield the folders of scenes by name."""
    if (folder / "scene.txt").is_file():
        yield "/".join(above), folder
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if above or inner.name not in {"SUNRGBDtoolbox", "image", "depth", "depth_bfx"}:
            yield from _walk(inner, (*above, inner.name))
