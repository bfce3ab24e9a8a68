"""Readers of images and of depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.images import Cropping, Form, Metres, convert, read_deep, read_image
from cpsc_train.data.readers.base import Reader
from cpsc_train.data.storage.files import Place
from cpsc_train.errors import DataError

if TYPE_CHECKING:
    from cpsc_train.data.modality import Modality


class ImageReader(Reader):
    """Reader of image files and of images (height, width, 3), cropped to their centre.

    - `modality`: properties of the input, (3, size, size).
    - `cropping`: size of the crop.
    """

    def __init__(self, modality: Modality, cropping: Cropping) -> None:
        super().__init__(modality)
        self._cropping = cropping

    @property
    def accepts(self) -> str:
        channels = self.modality.shape[0]
        return f"an image file, or an image of shape (height, width, {channels}) or {self.modality.shape}"

    def array(self, given: object) -> NDArray[Any]:
        return super().array(given.convert("RGB") if hasattr(given, "convert") else given)

    def decode(self, file: Place) -> NDArray[Any]:
        return np.asarray(read_image(file))

    def present(self, content: NDArray[Any], generator: np.random.Generator | None = None) -> NDArray[np.float32]:
        """Return the centre of an image (h, w) or (h, w, c), or for training a random square of it."""
        if content.ndim not in {2, 3} or 0 in content.shape:
            raise DataError(f"must be {self.accepts}, got shape {content.shape}", "wrong size")
        return self._cropping.crop(content, generator)


class DepthReader(ImageReader):
    """Reader of depth images, and of depth in metres (height, width).

    - `modality` and `cropping`: as for `ImageReader`.
    - `form`: form in which depth enters the model.
    - `metres`: converts the values of an image of 16 bits to metres. If None, such a file is refused.
    """

    def __init__(
        self,
        modality: Modality,
        cropping: Cropping,
        form: Form,
        metres: Callable[[NDArray[np.uint16]], Metres] | None,
    ) -> None:
        super().__init__(modality, cropping)
        self._form, self._metres = form, metres

    @property
    def accepts(self) -> str:
        return f"a depth image, or an array of shape {self.modality.shape} or, in metres, (height, width)"

    def decode(self, file: Place) -> NDArray[Any]:
        """Return the depth in an image of 16 bits in the form of the model; one of 8 bits is used unscaled."""
        return decode_depth(file, self._form, self._metres, None)

    def array(self, given: object) -> NDArray[Any]:
        """Return depth (h, w) in metres in the form of the model, and any other array as it is."""
        values = super().array(given)
        if values.ndim != 2:
            return values
        return _converted(values.astype(np.float32), self._form, None, "depth")


def decode_depth(
    file: Place,
    form: Form,
    metres: Callable[[NDArray[np.uint16]], Metres] | None,
    camera: Callable[[], tuple[float, float, float, float]] | None,
) -> NDArray[Any]:
    """Return the depth in an image file in a form for a model; an image of 8 bits is used unscaled.

    `metres` converts 16 bits to metres, and `camera` returns the intrinsics, which HHA needs; None if unknown. Raises
    DataError if the file cannot be decoded, or not be converted to the form.
    """
    try:
        bits = read_deep(file)
    except DataError as error:
        if error.kind != "wrong form":
            raise
        refuse_form(form, file)
        return np.asarray(read_image(file))
    if metres is None:
        raise DataError(f"{file}: the unit of its depth is unknown: give it in metres, as an array", "wrong form")
    return _converted(metres(bits), form, camera, str(file))


def refuse_form(form: Form, path: Place) -> None:
    """Refuse a form of depth that 8 bits cannot have."""
    if form != "repeat":
        raise DataError(f"{path}: holds depth as a picture of 8 bits: data.depth must be repeat, got {form}")


def _converted(
    metres: Metres, form: Form, camera: Callable[[], tuple[float, float, float, float]] | None, what: str
) -> NDArray[np.float32]:
    if form == "hha" and camera is None:
        raise DataError(
            f"{what}: data.depth = hha needs the camera's intrinsics: give depth in this form", "wrong form"
        )
    return convert(metres, form, camera() if form == "hha" and camera is not None else (1.0, 1.0, 0.0, 0.0))
