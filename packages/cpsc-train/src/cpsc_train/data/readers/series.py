"""Reader of recordings by sensors, of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.readers.base import Reader

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
