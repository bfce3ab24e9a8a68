"""Base of data sets of files, whose samples are decoded on reading or taken from a cache."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Rows
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.decoders import DECODERS, versions
from cpsc_train.data.modality import Modality
from cpsc_train.data.splits import rows_by_part
from cpsc_train.data.storage.cache import FORMAT, Cache
from cpsc_train.data.strings import StringArray


@dataclass(frozen=True, kw_only=True)
class StoredConfig(DataConfig):
    """Options of a data set of files."""

    root: str
    """Folder of the data set."""
    cache: str | None = None
    """A folder filled by ``cpsc data prepare NAME --cache DIR``. If None, files are decoded whenever they are read."""


class Sample(Protocol):
    """A sample with a unique name, a label, and its official part or ``""``."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def part(self) -> str: ...


class Stored(Dataset):
    """Samples that are decoded from files.

    An adapter implements `decode` and `present`, and `recipe` if `decode` depends on options. A cache keeps what
    `decode` returns.

    Parameters
    ----------
    config
        The modalities in use, and the cache.
    samples
        The samples, in order.
    known
        All modalities.
    faults
        Faults, notes and rows left out.
    """

    decoded: Sequence[str]
    """The modalities that are decoded from files: neither text nor vectors."""
    partly: Sequence[str] = ()
    """Those of them for which `present` reads a part of the file if nothing is cached."""
    _cache: Cache | None = None

    def __init__(
        self, config: StoredConfig, samples: Sequence[Sample], known: Mapping[str, Modality], faults: Faults
    ) -> None:
        self.ids = StringArray.of(sample.name for sample in samples)
        self.labels = np.array([sample.label for sample in samples], dtype=np.int64)
        self.modalities = {name: known[name] for name in config.modalities}
        self.decoded = [name for name in config.modalities if known[name].kind not in {"text", "vector"}]
        self.faults, self.notes, self.dropped = faults.errors, faults.notes, tuple(faults.dropped)
        parts = [sample.part for sample in samples]
        self.parts = rows_by_part(parts) if any(parts) else None
        self.use_cache(config.cache)

    @abstractmethod
    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the full content of a sample's file, such as (h, w, 3) uint8; nothing about it is random.

        Raises
        ------
        DataError
            If it cannot be decoded; names the file.
        """

    @abstractmethod
    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[Any]:
        """Return one row of `augmented`, or of `read` if `generator` is None, from what `fetch` returns."""

    def recipe(self, modality: str, /) -> dict[str, Any]:
        """Return the options that `decode` depends on besides the files; a cache of another recipe is refused."""
        return {}

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the packages that `decode` depends on; a cache filled with other versions is refused."""
        return DECODERS

    def fetch(self, modality: str, row: int) -> NDArray[Any]:
        """Return what `decode` returns, from the cache if there is one."""
        if self._cache is not None:
            return self._cache.read(modality, self.ids[row])
        return self.decode(modality, row)

    def use_cache(self, folder: str | None) -> None:
        """Read decoded samples from a cache from now on, if `folder` is not None.

        Raises
        ------
        UserError
            If it was filled with other options, or is incomplete.
        """
        if folder is not None:
            self._cache = Cache.open(folder, self.cache_key(), len(self), self.decoded)

    def decoding(self) -> dict[str, Any]:
        """Return everything that the content of a cache depends on besides the samples."""
        return {"format": FORMAT} | {
            modality: self.recipe(modality) | {"decoders": versions(self.decoders(modality))}
            for modality in self.decoded
        }

    def cache_key(self) -> str:
        """Return a hash of all that the content of a cache depends on: options, versions of decoders, samples."""
        return hashlib.sha256(json.dumps([self.decoding(), list(self.ids)]).encode()).hexdigest()

    @property
    def cached(self) -> bool:
        """Whether samples come from a cache."""
        return self._cache is not None

    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        return np.stack([self.present(modality, int(row), None) for row in rows])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the samples at `rows` for training."""
        return np.stack([self.present(modality, int(row), g) for row, g in zip(rows, generators, strict=True)])
