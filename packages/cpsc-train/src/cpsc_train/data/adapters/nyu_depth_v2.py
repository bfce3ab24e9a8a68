"""NYU Depth V2: ten kinds of rooms, in colour and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.families.rgbd import Scene, SceneConfig, Scenes, derived, millimetres, scene_readers
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.images import Form, convert
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import Reader
from cpsc_train.data.storage.files import Place, check_root
from cpsc_train.data.storage.matlab import load, open_hdf5
from cpsc_train.data.storage.untrusted import LONGEST_NAME, MOST_PIXELS, stored_array
from cpsc_train.errors import DataError, UserError

LABELED = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)
CLASSES = (
    *("bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room"),
    *("office", "others"),
)
"""The nine most frequent of the 27 types of scenes, and the others as one class."""


@dataclass(frozen=True, kw_only=True)
class NYUDepthV2Config(SceneConfig, name="nyu-depth-v2"):
    """The distribution, or a derived copy.

    The distribution is ``nyu_depth_v2_labeled.mat``, and ``splits.mat`` with its division. A copy holds
    ``{train,val,test}/CLASS/*.png`` with colour in the left half and depth in the right half, or
    ``{rgb,depth}/{train,val,test}/CLASS/``; ``val`` may be absent, and the classes are the names of the folders.
    """

    root: str = "data/nyud2_trainvaltest"
    """Folder of the data set."""

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of colour and depth; depth images of 16 bits are in millimetres."""
        known = scene_readers(self, millimetres)
        return {name: known[name] for name in modalities}

    def load(self) -> Dataset:
        """List the scenes; images are read on demand."""
        root = check_root(self.root)
        faults = Faults()
        if (root / LABELED).is_file():
            if not isinstance(root, Path):
                raise UserError(f"{root / LABELED}: is read from a disk only: cache it with cpsc data prepare --cache")
            return Scenes(self, _native(root, faults), CLASSES, faults)
        scenes, classes = derived(root, None, faults)
        return Scenes(self, scenes, classes, faults)


@dataclass(frozen=True)
class Row:
    """One scene of the .mat file, which is opened for each reading so that processes can share it."""

    file: Path
    row: int

    def colour(self) -> NDArray[np.uint8]:
        """Return (480, 640, 3)."""
        return np.ascontiguousarray(self._read("images", np.uint8, 3).transpose(2, 1, 0))

    def depth(self, form: Form) -> NDArray[Any]:
        """Return depth; the authors of the data set have filled its gaps."""
        metres = np.ascontiguousarray(self._read("depths", np.float32, 2).T)
        if not np.isfinite(metres).all():
            raise DataError(f"{self.file}: depth of scene {self.row + 1} is not finite everywhere")
        return convert(metres, form, CAMERA)

    def _read(self, name: str, kind: type[np.generic], dimensions: int) -> NDArray[Any]:
        with open_hdf5(self.file, f"{name} of scene {self.row + 1}") as file:
            array = stored_array(file, name)
            _check_form(self.file, name, array, kind, dimensions)
            return np.asarray(array[self.row])


def _check_form(file: Path, name: str, array: Any, kind: type[np.generic], dimensions: int) -> None:
    if array.dtype != kind or array.ndim != dimensions + 1:
        raise DataError(
            f"{file}: {name} must be {np.dtype(kind)} of {dimensions} dimensions a scene, got {array.dtype} of shape "
            f"{array.shape[1:]}",
            "bad file",
        )
    width, height = array.shape[-2:]
    if width * height > MOST_PIXELS or array.shape[1:-2] not in {(), (3,)}:
        raise DataError(f"{file}: {name} has scenes of shape {array.shape[1:]}", "wrong size")


def _native(root: Path, faults: Faults) -> list[Scene]:
    file = root / LABELED
    types = _types(file)
    parts = _parts(root / SPLITS, len(types)) if (root / SPLITS).is_file() else None
    if parts is None:
        faults.note(f"{root / SPLITS}: is not there, so the fractions of the splits apply", "no division")
    return [
        Scene(
            f"{row + 1:04d}",
            CLASSES.index(kind if kind in CLASSES else "others"),
            "" if parts is None else parts[row],
            Row(file, row),
            {},
        )
        for row, kind in enumerate(types)
    ]


def _types(file: Path) -> list[str]:
    with open_hdf5(file, "sceneTypes, images and depths", "bad file") as opened:
        types = [_text(opened, cell) for cell in np.asarray(stored_array(opened, "sceneTypes")).ravel()]
        rows = {name: stored_array(opened, name).shape[0] for name in ("images", "depths")}
    if not types or any(count != len(types) for count in rows.values()):
        raise DataError(
            f"{file}: must hold as many scene types, images and depths, got {len(types)}, {rows['images']}, "
            f"{rows['depths']}",
            "bad file",
        )
    return types


def _text(file: Any, cell: Any) -> str:
    codes = stored_array(file, cell)
    if codes.dtype.kind != "u" or codes.size > LONGEST_NAME:
        raise ValueError(f"a scene type has {codes.size:,} values of {codes.dtype}")
    return "".join(map(chr, np.asarray(codes).ravel()))


def _parts(file: Place, rows: int) -> list[str]:
    lists = load(file, ["trainNdxs", "testNdxs"])
    train, test = lists["trainNdxs"], lists["testNdxs"]
    if sorted([*train, *test], key=str) != sorted(range(1, rows + 1), key=str):
        raise DataError(f"{file}: trainNdxs and testNdxs must hold each of 1…{rows} once", "bad file")
    tested = set(test)
    return ["test" if row in tested else "train" for row in range(1, rows + 1)]
