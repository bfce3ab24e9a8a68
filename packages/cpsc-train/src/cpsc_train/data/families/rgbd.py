"""Colour and depth of scenes, the common part of NYU Depth V2 and SUN RGB-D, and the layouts of derived copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.images import FARTHEST, Camera, Cropping, Form, Metres, read_image
from cpsc_train.data.media.video import listed
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import DepthReader, ImageReader, Reader
from cpsc_train.data.readers.images import decode_depth, refuse_form
from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError, UserError

MODALITIES = ("rgb", "depth")
MEAN = (126.2505, 91.8255, 116.9685)
STD = (37.587, 49.725, 41.973)
PARTS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class SceneConfig(StoredConfig):
    """Options shared by data sets of colour and depth."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of rgb, depth."""
    depth: Form = "repeat"
    """``repeat``: one channel three times, 10 m being 255, for encoders of photographs; ``metres``: one channel in full
    precision; ``hha``: horizontal disparity, height above ground and angle to gravity. Copies that hold depth as an
    image of 8 bits have ``repeat`` only, unscaled."""
    resized: int = 256
    """Pixels to which the shorter side is scaled."""
    size: int = 224
    """Side in pixels of the square crop of both: the centre in evaluation, random in training."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        if not 1 <= self.size <= self.resized:
            raise UserError(f"data.size must lie in 1…resized = {self.resized}, got {self.size}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of colour and depth; the unit of depth of 16 bits depends on the layout, so it is refused."""
        known = scene_readers(self, None)
        return {name: known[name] for name in modalities}


class Pair(Protocol):
    """Colour and depth of one scene."""

    def colour(self) -> NDArray[np.uint8]:
        """Return (h, w, 3)."""

    def depth(self, form: Form) -> NDArray[Any]:
        """Return (h, w) or (h, w, 3), as `convert` does."""


@dataclass(frozen=True)
class Scene:
    """One scene: a unique name, its class, its part or ``""``, its images, and their files by ending, if any."""

    name: str
    label: int
    part: str
    pair: Pair
    files: Mapping[str, Place]


@dataclass(frozen=True)
class SideBySide:
    """One image with colour in its left half and depth in its right half."""

    path: Place

    def colour(self) -> NDArray[np.uint8]:
        """Return the left half."""
        return self._halves()[0]

    def depth(self, form: Form) -> NDArray[Any]:
        """Return the right half."""
        refuse_form(form, self.path)
        return self._halves()[1]

    def _halves(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = np.asarray(read_image(self.path))
        height, width = image.shape[:2]
        if width < 1.2 * height:
            raise DataError(
                f"{self.path}: must hold colour and depth side by side, but is no wider than one: {width}×{height}",
                "wrong size",
            )
        middle = width // 2
        return image[:, :middle], image[:, middle : 2 * middle]


@dataclass(frozen=True)
class Separate:
    """A colour image, and a depth image of 16 bits, or of 8 bits to be used unscaled.

    `metres` converts 16 bits to metres; `camera` is called for HHA only.
    """

    rgb: Place
    deep: Place
    metres: Callable[[NDArray[np.uint16]], Metres]
    camera: Callable[[], Camera]

    def colour(self) -> NDArray[np.uint8]:
        """Return the colour image."""
        return np.asarray(read_image(self.rgb))

    def depth(self, form: Form) -> NDArray[Any]:
        """Return depth."""
        return decode_depth(self.deep, form, self.metres, self.camera)

    def files(self) -> Mapping[str, Place]:
        """Return both files by ending."""
        return {f"rgb{self.rgb.suffix}": self.rgb, f"depth{self.deep.suffix}": self.deep}


class Scenes(Stored):
    """Images (3, size, size) of colour in [0, 255], and of depth in the form of the configuration."""

    def __init__(self, config: SceneConfig, scenes: Sequence[Scene], classes: Sequence[str], faults: Faults) -> None:
        self._scenes, self.classes, self._form = scenes, classes, config.depth
        self._readers = scene_readers(config, None)
        super().__init__(config, scenes, {name: one.modality for name, one in self._readers.items()}, faults)

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the full colour image, (h, w, 3) uint8, or depth, also (h, w) or (h, w, 3) float32."""
        pair = self._scenes[row].pair
        return pair.colour() if modality == "rgb" else pair.depth(self._form)

    def recipe(self, modality: str, /) -> dict[str, Any]:
        return {"form": self._form} if modality == "depth" else {}

    def decoders(self, modality: str, /) -> Sequence[str]:
        return ("pillow",)

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[np.float32]:
        """Return the centre, or a random square, the same of colour and depth."""
        return self._readers[modality].present(self.fetch(modality, row), generator)

    def examine(self, row: int, /) -> Iterator[DataError]:
        """Compare the sizes of colour and depth."""
        shapes = [self.fetch(modality, row).shape[:2] for modality in self.modalities]
        if len(set(shapes)) > 1:
            sizes = " and ".join(f"{m} {w}×{h}" for m, (h, w) in zip(self.modalities, shapes, strict=True))
            yield DataError(f"{self.ids[row]}: must be of one size, got {sizes}", "wrong size")

    def sources(self, row: int, /) -> Mapping[str, Place]:
        return self._scenes[row].files


def scene_readers(config: SceneConfig, metres: Callable[[NDArray[np.uint16]], Metres] | None) -> dict[str, ImageReader]:
    """Return readers of colour and depth; `metres` converts images of 16 bits, which are refused if it is None."""
    cropping, size = Cropping(config.resized, config.size), config.size
    image = Modality(kind="image", shape=(3, size, size), bounds=(0.0, 255.0), mean=MEAN, std=STD)
    forms = {
        "repeat": image,
        "metres": Modality(kind="image", shape=(1, size, size), bounds=(0.0, FARTHEST)),
        "hha": Modality(kind="image", shape=(3, size, size), bounds=(0.0, 255.0)),
    }
    depth = DepthReader(forms[config.depth], cropping, config.depth, metres)
    return {"rgb": ImageReader(image, cropping), "depth": depth}


def derived(root: Place, classes: Sequence[str] | None, faults: Faults) -> tuple[list[Scene], Sequence[str]]:
    """Return the scenes of ``{train,val,test}/CLASS/*.png`` or of ``{rgb,depth}/{train,val,test}/CLASS/``.

    If `classes` is None, they are the sorted names of the folders of training images. Folders that are not classes, and
    colour without depth, are faults. Raises UserError if train or test has no images.
    """
    separate = (root / "rgb").is_dir()
    top = root / "rgb" if separate else root
    if classes is None:
        classes = [path.name for path in _folders(top / "train")]
        if len(classes) < 2:
            raise UserError(f"{top / 'train'}: must hold a folder of images for each class, and has {len(classes)}")
    scenes: list[Scene] = []
    for folder, part in PARTS.items():
        before = len(scenes)
        for inner in _folders(top / folder):
            name = f"{folder}/{inner.name}"
            if inner.name not in classes:
                error = f"{inner}: is not one of the {len(classes)} classes ({', '.join(classes)})"
                faults.add(name, DataError(error, "unknown class"))
                continue
            pairs = _pairs(inner, root / "depth" / folder / inner.name if separate else None, name, faults)
            label = classes.index(inner.name)
            scenes += [Scene(f"{name}/{path.stem}", label, part, pair, files) for path, pair, files in pairs]
        if len(scenes) == before and folder != "val" and not faults.errors:
            raise UserError(f"{top / folder}: must hold a folder of images for each class, and has none")
    return scenes, classes


def _pairs(
    colours: Place, depths: Place | None, name: str, faults: Faults
) -> Iterator[tuple[Place, Pair, Mapping[str, Place]]]:
    """Yield colour file, images and all files of the scenes of a class; colour without depth is a fault."""
    deep = {} if depths is None else {path.stem: path for path in listed(depths)}
    for path in listed(colours):
        if depths is None:
            yield path, SideBySide(path), {f"pair{path.suffix}": path}
        elif path.stem in deep:
            pair = Separate(path, deep[path.stem], millimetres, no_camera)
            yield path, pair, pair.files()
        else:
            error = DataError(f"{depths / path.stem}: depth of {path} is missing", "missing")
            faults.add(f"{name}/{path.stem}", error)


def millimetres(bits: NDArray[np.uint16]) -> Metres:
    """Return metres from millimetres."""
    return bits.astype(np.float32) / np.float32(1000)


def no_camera() -> Camera:
    """Refuse HHA for a copy without the camera's intrinsics."""
    raise UserError("data.depth = hha needs the camera's intrinsics, which this copy lacks: take repeat or metres")


def _folders(folder: Place) -> list[Place]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
