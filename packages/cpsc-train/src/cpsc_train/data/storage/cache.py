"""Decoded samples in memory-mapped files, which training only crops and scales, and in memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.errors import DataError, UserError, reason
from cpsc_train.reading import read_file

FORMAT = 1
"""Version of the layout on the disk."""
CHUNK = 256
"""Samples per file."""
Index = Mapping[str, Mapping[str, tuple[str, int, list[int], str]]]
"""By modality and sample: file, first byte, shape and dtype."""


class Cache:
    """Decoded arrays of a data set, by modality and sample.

    A folder holds ``cache.json`` and, for each modality and `CHUNK` samples, a file of bytes and its index. The index
    is written last, so a chunk is complete or absent.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder, self._index = folder, index

    @classmethod
    def open(cls, folder: str, key: str, samples: int, modalities: Iterable[str]) -> Cache:
        """Open a cache of so many samples of these modalities; `key` is a hash of all that its content depends on.

        Raises UserError if it was made with other options or decoders, or is incomplete or damaged.
        """
        path = Path(folder)
        try:
            head = parse_json(read_file(path / "cache.json"))
            if head["hash"] != key:
                raise UserError(  # noqa: TRY301
                    f"data.cache {path}: was made with other options, decoders or samples, namely "
                    f"{json.dumps(head['of'])[:600]}: make it again, in another folder"
                )
            index: dict[str, dict[str, tuple[str, int, list[int], str]]] = {m: {} for m in modalities}
            for modality in index:
                for number in range(len(chunks(samples))):
                    name = f"{modality}-{number:05d}"
                    entries = parse_json(read_file(path / f"{name}.json"))
                    index[modality] |= {sample: (f"{name}.bin", *entry) for sample, entry in entries.items()}
        except FileNotFoundError as error:
            raise UserError(
                f"data.cache {path}: {Path(str(error.filename)).name} is not there: fill the folder with cpsc data "
                "prepare --cache, which resumes"
            ) from None
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"data.cache {path}: is not a readable cache ({reason(error)})") from None
        return cls(path, index)

    def read(self, modality: str, sample: str) -> NDArray[Any]:
        """Return a memory-mapped array; raise DataError if the sample is not cached, or its entry is damaged."""
        if sample not in self._index[modality]:
            raise DataError(f"data.cache {self._folder}: {sample} is not in it, since it was left out then", "missing")
        try:
            file, start, shape, kind = self._index[modality][sample]
            content = _mapped(str(self._folder / file))
            if not re.fullmatch(r"[<>|=]?[biuf]\d{1,2}", kind) or min(start, *shape) < 0:
                raise ValueError("not numbers")  # noqa: TRY301
            dtype = np.dtype(kind)
            return content[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        except UserError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"data.cache {self._folder}: its entry of {sample} is damaged ({reason(error)})") from None


@lru_cache(maxsize=512)
def _mapped(file: str) -> NDArray[np.uint8]:
    try:
        return np.memmap(file, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be mapped into memory ({reason(error)})") from None


def chunks(samples: int) -> list[range]:
    """Return the rows of each chunk."""
    return [range(start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]


class MemoryCache:
    """Arrays by key. Those that do not fit are made again at each call.

    A copy in another process starts empty.

    `limit`: largest number of bytes of all arrays.

    Examples
    --------
    >>> import numpy as np
    >>> cache = MemoryCache(100)
    >>> cache.get("a", lambda: np.zeros(2)) is cache.get("a", lambda: np.ones(2))
    True
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._arrays: dict[Hashable, NDArray[Any]] = {}

    def __reduce__(self) -> tuple[type[MemoryCache], tuple[int]]:
        """Return what an empty copy is made of."""
        return MemoryCache, (self._limit,)

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array of a key, which `make` returns if there is none. It must not be modified."""
        if key in self._arrays:
            return self._arrays[key]
        array = make()
        if array.nbytes <= self._left:
            self._arrays[key] = array
            self._left -= array.nbytes
        return array
