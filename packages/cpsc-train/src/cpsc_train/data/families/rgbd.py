"""Colour and depth of a scene: what NYU Depth V2 and SUN RGB-D have in common, and the layouts of derived copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Modality, check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.depth import FARTHEST, Camera, Form, Metres, shown
from cpsc_train.data.media.images import Cropping, read_deep, read_image
from cpsc_train.data.media.video import IMAGES
from cpsc_train.data.splits import rows_by_part
from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError, UserError

MODALITIES = ("rgb", "depth")
MEAN = (126.2505, 91.8255, 116.9685)
DEVIATION = (37.587, 49.725, 41.973)
PARTS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class SceneConfig(StoredConfig):
    """What the data sets of colour and depth share."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of rgb, depth."""
    depth: Form = "repeat"
    """``repeat``: one channel three times, 10 m being 255, as encoders of photographs want it; ``metres``: one channel
    of full precision; ``hha``: horizontal disparity, height above ground and angle to gravity. Copies that hold depth
    as a picture of 8 bits have ``repeat`` alone, as it is."""
    resized: int = 256
    """Pixels that the shorter side is scaled to."""
    size: int = 224
    """Pixels of the side of the square that is cut out: the middle in evaluation, anywhere in training, the same of
    both."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        if not 1 <= self.size <= self.resized:
            raise UserError(f"data.size must lie in 1…resized = {self.resized}, got {self.size}")


class Pair(Protocol):
    """Where colour and depth of one scene are."""

    def colour(self) -> NDArray[np.uint8]:
        """Return (h, w, 3)."""

    def depth(self, form: Form) -> NDArray[Any]:
        """Return (h, w) or (h, w, 3), as `shown` does."""

    def sources(self) -> Mapping[str, Place]:
        """Return the files."""


@dataclass(frozen=True)
class Scene:
    """One scene: a unique name, its class, its part or nothing, and where it is."""

    name: str
    label: int
    part: str
    pair: Pair


@dataclass(frozen=True)
class SideBySide:
    """One picture with colour in its left half and depth in its right one."""

    path: Place

    def colour(self) -> NDArray[np.uint8]:
        """Return the left half."""
        whole = self._whole()
        return whole[:, : whole.shape[1] // 2]

    def depth(self, form: Form) -> NDArray[Any]:
        """Return the right half."""
        _refuse(form, self.path)
        whole = self._whole()
        middle = whole.shape[1] // 2
        return whole[:, middle : 2 * middle]

    def sources(self) -> Mapping[str, Place]:
        """Return the file."""
        return {f"pair{self.path.suffix}": self.path}

    def _whole(self) -> NDArray[np.uint8]:
        whole = np.asarray(read_image(self.path))
        height, width = whole.shape[:2]
        if width < 1.2 * height:
            raise DataError(
                f"{self.path}: must hold colour and depth side by side, but is no wider than one: {width}×{height}",
                "wrong size",
            )
        return whole


@dataclass(frozen=True)
class Separate:
    """A colour picture, and one of depth: of 16 bits, or a picture to be taken as it is.

    Parameters
    ----------
    rgb, deep
        The two files.
    metres
        From the 16 bits to metres.
    camera
        What the camera was; asked for HHA only.
    """

    rgb: Place
    deep: Place
    metres: Callable[[NDArray[np.uint16]], Metres]
    camera: Callable[[], Camera]

    def colour(self) -> NDArray[np.uint8]:
        """Return the colour picture."""
        return np.asarray(read_image(self.rgb))

    def depth(self, form: Form) -> NDArray[Any]:
        """Return depth."""
        try:
            bits = read_deep(self.deep)
        except DataError as error:
            if error.kind != "wrong form":
                raise
            _refuse(form, self.deep)
            return np.asarray(read_image(self.deep))
        return shown(self.metres(bits), form, self.camera() if form == "hha" else (1.0, 1.0, 0.0, 0.0))

    def sources(self) -> Mapping[str, Place]:
        """Return both files."""
        return {f"rgb{self.rgb.suffix}": self.rgb, f"depth{self.deep.suffix}": self.deep}


class Scenes(Stored):
    """Images (3, size, size) of colour in [0, 255], and of depth in the form that is asked for.

    Parameters
    ----------
    config
        Sizes, and the form of depth.
    scenes
        What there is.
    classes
        Class names.
    faults, dropped
        What was found on the way, and what is left out on purpose.
    """

    def __init__(
        self,
        config: SceneConfig,
        scenes: Sequence[Scene],
        classes: Sequence[str],
        faults: Faults,
        dropped: Sequence[str] = (),
    ) -> None:
        self._scenes = scenes
        self._form = config.depth
        self._cropping = Cropping(config.resized, config.size)
        self.classes = classes
        self.ids = [scene.name for scene in scenes]
        self.labels = np.array([scene.label for scene in scenes], dtype=np.int64)
        self.faults, self.notes, self.dropped = faults.found, faults.notes, dropped
        self.parts = rows_by_part([scene.part for scene in scenes]) if scenes and scenes[0].part else None
        shape = (3, config.size, config.size)
        picture = Modality(kind="image", shape=shape, bounds=(0.0, 255.0), mean=MEAN, deviation=DEVIATION)
        forms = {
            "repeat": picture,
            "metres": Modality(kind="image", shape=(1, *shape[1:]), bounds=(0.0, FARTHEST)),
            "hha": Modality(kind="image", shape=shape, bounds=(0.0, 255.0)),
        }
        known = {"rgb": picture, "depth": forms[config.depth]}
        self.modalities = {name: known[name] for name in config.modalities}
        self.decoded = config.modalities
        self.use_cache(config.cache)

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the whole picture, (h, w, 3) uint8, or depth, also (h, w) or (h, w, 3) float32."""
        pair = self._scenes[row].pair
        return pair.colour() if modality == "rgb" else pair.depth(self._form)

    def recipe(self, modality: str, /) -> dict[str, Any]:
        """Return what `decode` depends on."""
        return {"form": self._form} if modality == "depth" else {}

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the package that decodes images."""
        return ("pillow",)

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[np.float32]:
        """Return the middle, or a random square, the same of colour and depth."""
        return self._cropping.shown(self.held(modality, row), generator)

    def examine(self, row: int, /) -> Iterator[DataError]:
        """Compare the sizes of colour and depth."""
        shapes = [self.held(modality, row).shape[:2] for modality in self.modalities]
        if len(set(shapes)) > 1:
            sizes = " and ".join(f"{m} {w}×{h}" for m, (h, w) in zip(self.modalities, shapes, strict=True))
            yield DataError(f"{self.ids[row]}: must be of one size, got {sizes}", "wrong size")

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the files of a scene."""
        return self._scenes[row].pair.sources()


def derived(root: Place, classes: Sequence[str] | None, faults: Faults) -> tuple[list[Scene], Sequence[str]]:
    """Return the scenes of ``{train,val,test}/CLASS/*.png`` or of ``{rgb,depth}/{train,val,test}/CLASS/``.

    Parameters
    ----------
    root
        The folder.
    classes
        Class names; the sorted names of the folders of training images if absent.
    faults
        Where a folder that is no class, or colour without depth, is noted down.

    Raises
    ------
    UserError
        If train or test has no images.
    """
    apart = (root / "rgb").is_dir()
    top = root / "rgb" if apart else root
    if classes is None:
        classes = [path.name for path in _folders(top / "train")]
        if len(classes) < 2:
            raise UserError(f"{top / 'train'}: must hold a folder of images for each class, and has {len(classes)}")
    scenes: list[Scene] = []
    for folder, part in PARTS.items():
        before = len(scenes)
        for inner in _folders(top / folder):
            if inner.name not in classes:
                told = f"{inner}: is not one of the {len(classes)} classes ({', '.join(classes)})"
                faults.add(f"{folder}/{inner.name}", DataError(told, "unknown class"))
                continue
            deep = {path.stem: path for path in _images(root / "depth" / folder / inner.name)} if apart else {}
            for path in _images(inner):
                name = f"{folder}/{inner.name}/{path.stem}"
                if apart and path.stem not in deep:
                    told = f"{root / 'depth' / folder / inner.name / path.stem}: depth of {path} is missing"
                    faults.add(name, DataError(told, "missing"))
                    continue
                pair: Pair = Separate(path, deep[path.stem], millimetres, no_camera) if apart else SideBySide(path)
                scenes.append(Scene(name, classes.index(inner.name), part, pair))
        if len(scenes) == before and folder != "val" and not faults.found:
            raise UserError(f"{top / folder}: must hold a folder of images for each class, and has none")
    return scenes, classes


def millimetres(bits: NDArray[np.uint16]) -> Metres:
    """Return metres of a picture of millimetres."""
    return bits.astype(np.float32) / np.float32(1000)


def no_camera() -> Camera:
    """Refuse HHA where nothing tells of the camera."""
    raise UserError("data.depth = hha needs the camera's intrinsics, which this copy lacks: take repeat or metres")


def _refuse(form: Form, path: Place) -> None:
    if form != "repeat":
        raise UserError(f"{path}: holds depth as a picture of 8 bits: data.depth must be repeat, got {form}")


def _folders(folder: Place) -> list[Place]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _images(folder: Place) -> list[Place]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
