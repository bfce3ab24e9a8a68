"""What data sets of files have in common: a sample is decoded, by this process or once for all, and then presented."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Rows
from cpsc_train.data.media.decoders import DECODERS, versions
from cpsc_train.data.storage.cache import FORMAT, Cache


@dataclass(frozen=True, kw_only=True)
class StoredConfig(DataConfig):
    """Options of a data set of files."""

    root: str
    """Folder of the data set."""
    cache: str | None = None
    """A folder that ``cpsc data prepare NAME --cache DIR`` filled; files are decoded anew each time if absent."""


class Stored(Dataset):
    """Samples that are decoded from files.

    An adapter says what a file holds (`decode`), from what that depends (`recipe`), and what is shown of it
    (`present`). A cache keeps what `decode` returns.
    """

    decoded: Sequence[str]
    """The modalities that files are decoded for."""
    partly: Sequence[str] = ()
    """Those of them whose `present` looks at a part of the file alone, where nothing is cached."""
    _cache: Cache | None = None

    @abstractmethod
    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return all that the file of a sample holds, such as (h, w, 3) uint8; nothing about it is random.

        Raises
        ------
        DataError
            If it cannot be decoded; names the file.
        """

    @abstractmethod
    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[Any]:
        """Return what `read` (without a generator) or `augmented` returns of one row, by way of `held`."""

    def recipe(self, modality: str, /) -> dict[str, Any]:
        """Return what `decode` depends on beside the files; a cache of another recipe is refused."""
        return {}

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the packages whose versions `decode` depends on; a cache that others filled is refused."""
        return DECODERS

    def held(self, modality: str, row: int) -> NDArray[Any]:
        """Return what `decode` returns, from the cache where there is one."""
        if self._cache is not None:
            return self._cache.read(modality, self.ids[row])
        return self.decode(modality, row)

    def use_cache(self, folder: str | None) -> None:
        """Take what is decoded from a folder from now on.

        Raises
        ------
        UserError
            If it was filled with other options, or is not complete.
        """
        if folder is not None:
            self._cache = Cache.open(folder, self.cache_key(), len(self), self.decoded)

    def decoding(self) -> dict[str, Any]:
        """Return what the content of a cache depends on beside the samples."""
        return {"format": FORMAT} | {
            modality: self.recipe(modality) | {"decoders": versions(self.decoders(modality))}
            for modality in self.decoded
        }

    def cache_key(self) -> str:
        """Return a hash of all that the content of a cache depends on: options, versions of decoders, samples."""
        return hashlib.sha256(json.dumps([self.decoding(), list(self.ids)]).encode()).hexdigest()

    @property
    def cached(self) -> bool:
        """Whether nothing has to be decoded."""
        return self._cache is not None

    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        """Return the samples at `rows`."""
        return np.stack([self.present(modality, int(row), None) for row in rows])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` as training sees them."""
        return np.stack([self.present(modality, int(row), g) for row, g in zip(rows, generators, strict=True)])
