"""Base of readers of single samples: arrays as they enter the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.truncation import container_of
from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.packed import Packed, Store
from cpsc_train.data.storage.untrusted import CONTAINERS
from cpsc_train.errors import DataError

if TYPE_CHECKING:
    from cpsc_train.data.modality import Modality

Array = NDArray[Any]


class Reader:
    """Reader of one modality of a sample that need not belong to a data set.

    A data set uses the same `decode`, `present` and `inputs` for its own samples, so predictions and evaluations have
    the same inputs. This base accepts arrays in the shape of the modality, or with as many values; subclasses also
    accept files.

    `modality`: properties of its inputs.

    Examples
    --------
    >>> from cpsc_train.data import Modality
    >>> Reader(Modality(kind="image", shape=(1, 2, 2))).read([0, 1, 2, 3]).shape
    (1, 2, 2)
    """

    def __init__(self, modality: Modality) -> None:
        self.modality = modality

    @property
    def accepts(self) -> str:
        """What `read` accepts, in a few words for error messages."""
        return f"numbers of shape {self.modality.shape}"

    def read(self, given: object) -> Array:
        """Return one sample as `cpsc_train.data.Dataset.read` does, without the dimension of the rows.

        Raises DataError if it is of another type, of a wrong shape, not finite, or a file that cannot be decoded.

        `given`: a path, the content of a file as bytes, or an array, a tensor or nested lists of numbers.
        """
        if isinstance(given, str):
            given = Path(given)
        if isinstance(given, bytes | bytearray | memoryview):
            given = Content(bytes(given))
        if isinstance(given, Path | Packed):
            return self._checked(self.present(self.decode(given)))
        values = self.array(given)
        return self._checked(values if values.shape == self.modality.shape else self.present(values))

    def array(self, given: object) -> Array:
        """Return an array of the numbers in what is neither a file nor bytes."""
        values = given.detach().cpu() if hasattr(given, "detach") else given
        try:
            array = np.asarray(values)
        except ValueError:  # nested lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise DataError(f"must be {self.accepts}, got {type(given).__name__}", "wrong form")
        return array

    def decode(self, file: Place) -> Array:
        """Return the full content of a file."""
        raise DataError(f"{file}: must be {self.accepts}, got a file", "wrong form")

    def present(self, content: Array) -> Array:
        """Return the part of the content that enters the model in evaluation, in the units of the modality."""
        shape = self.modality.shape
        if content.ndim >= 3 and np.moveaxis(content, -1, -3).shape == shape:  # channels last
            return np.moveaxis(content, -1, -3)
        return content.reshape(shape) if content.size == np.prod(shape) else content

    def inputs(self, values: Array) -> Array:
        """Return the model's input ``(n, *shape)`` of samples (n, ...) that `read` returned."""
        return values

    def _checked(self, values: Array) -> Array:
        values = np.asarray(values, dtype=np.float32)
        if values.shape != self.values_shape:
            raise DataError(f"must be {self.accepts}, got shape {values.shape}", "wrong size")
        if not np.isfinite(values).all():
            raise DataError("must hold finite numbers only", "not finite")
        return values

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of a sample that `read` returns."""
        return self.modality.shape


class Content(Packed):
    """Content of a file in memory, accepted in place of a path."""

    def __init__(self, content: bytes) -> None:
        kind = container_of(content)
        suffix = next((suffix for suffix, (name, _) in CONTAINERS.items() if name == kind), "")
        super().__init__(Store("bytes", {}, {}), f"{len(content):,} bytes{suffix}")
        self._content = content

    def __str__(self) -> str:
        return self.path

    def is_file(self) -> bool:
        """Return True."""
        return True

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._content
