"""Base of readers of single samples: arrays as they enter the model; and readers of texts and of series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.tokens import Tokenizer
from cpsc_train.data.media.truncation import container_of
from cpsc_train.data.storage.files import Place, read_text
from cpsc_train.data.storage.index import Index
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


_MEMORY = Store("bytes", Index.of("bytes", {}))


class Content(Packed):
    """Content of a file in memory, accepted in place of a path."""

    def __init__(self, content: bytes) -> None:
        kind = container_of(content)
        suffix = next((suffix for suffix, (name, _) in CONTAINERS.items() if name == kind), "")
        super().__init__(_MEMORY, f"{len(content):,} bytes{suffix}")
        self._content = content

    def __str__(self) -> str:
        return self.path

    def is_file(self) -> bool:
        """Return True."""
        return True

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._content


if TYPE_CHECKING:
    from cpsc_train.data.modality import Modality


class TextReader(Reader):
    """Reader of texts, and of text files in UTF-8; its inputs are token numbers (n, tokens).

    - `modality`: properties of the tokens.
    - `tokenize`: returns the tokens of a text.

    Examples
    --------
    >>> from cpsc_train.data import Modality
    >>> from cpsc_train.data.media.tokens import HashedWords
    >>> reader = TextReader(Modality(kind="text", shape=(4,)), HashedWords(4))
    >>> (reader.inputs([reader.read("a cat")]) > 0).tolist()
    [[True, True, True, False]]
    """

    def __init__(self, modality: Modality, tokenize: Tokenizer) -> None:
        super().__init__(modality)
        self._tokenize = tokenize

    @property
    def accepts(self) -> str:
        return "a text, the path of a text file, or its content as bytes"

    def read(self, given: object) -> NDArray[Any]:
        """Return a text as an array of dtype object without dimensions."""
        if isinstance(given, bytes | bytearray | memoryview):
            given = Content(bytes(given))
        text = read_text(given).strip() if isinstance(given, Path | Packed) else given
        if not isinstance(text, str):
            raise DataError(f"must be {self.accepts}, got {type(given).__name__}", "wrong form")
        return np.array(str(text), dtype=object)

    def inputs(self, values: NDArray[Any]) -> NDArray[Any]:
        tokens = [self._tokenize(str(text)) for text in values]
        return np.array(tokens, dtype=np.int64).reshape(len(tokens), *self.modality.shape)


if TYPE_CHECKING:
    from cpsc_train.data.modality import Modality


class SeriesReader(Reader):
    """Reader of recordings (steps, *shape), resampled linearly to the steps of the modality.

    - `modality`: properties of the input; the first dimension of its shape counts the steps.
    - `shape`: shape of one step of a recording.
    - `prepare`: maps recordings (n, steps, *shape) to inputs. If None, they are reshaped.

    Examples
    --------
    >>> from cpsc_train.data import Modality
    >>> SeriesReader(Modality(kind="vector", shape=(3, 1)), (1,)).read([[0.0], [4.0]]).tolist()
    [[0.0], [2.0], [4.0]]
    """

    def __init__(
        self,
        modality: Modality,
        shape: tuple[int, ...],
        prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__(modality)
        self._shape, self._prepare = shape, prepare

    @property
    def accepts(self) -> str:
        recording = ", ".join(map(str, ("steps", *self._shape)))
        return f"numbers of shape ({recording}) or {self.modality.shape}"

    def present(self, content: NDArray[Any]) -> NDArray[Any]:
        if content.shape[1:] != self._shape or content.ndim == 0 or not len(content):
            return super().present(content)
        steps = interpolated(content.astype(np.float32), self.modality.shape[0])
        values = steps if self._prepare is None else self._prepare(steps[None])[0]
        return values.reshape(self.modality.shape)


def interpolated(recording: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Return a recording (steps, ...) at `length` evenly spaced times from the first step to the last."""
    times = np.linspace(0, len(recording) - 1, length)
    before = np.minimum(times.astype(np.int64), len(recording) - 1)
    after = np.minimum(before + 1, len(recording) - 1)
    weight = (times - before).astype(np.float32).reshape(-1, *[1] * (recording.ndim - 1))
    return np.asarray(recording[before] * (1 - weight) + recording[after] * weight, dtype=np.float32)
