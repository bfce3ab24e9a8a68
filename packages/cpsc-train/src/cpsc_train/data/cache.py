"""Decoded samples in memory-mapped files, so that training only cuts and scales them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.errors import DataError, UserError, reason

if TYPE_CHECKING:
    from cpsc_train.data.media.stored import Stored

FORMAT = 1
"""Number of what a cache looks like on the disk."""
CHUNK = 256
"""Samples a file."""


class Cache:
    """What a data set decodes, by modality and sample.

    A folder holds ``cache.json`` and, for each modality and `CHUNK` samples, one file of bytes beside one index: by
    sample where its array begins, and its shape and type. An index is written last, so that a chunk is there or is not.

    Parameters
    ----------
    folder
        Where it lies.
    index
        By modality and sample: file, first byte, shape and type.
    """

    def __init__(self, folder: Path, index: dict[str, dict[str, tuple[str, int, list[int], str]]]) -> None:
        self._folder, self._index = folder, index

    @classmethod
    def open(cls, folder: str, dataset: Stored) -> Cache:
        """Open what `write_chunk` wrote for this data set, with these options.

        Raises
        ------
        UserError
            If it was made with other options, or a sample is not in it.
        """
        path = Path(folder)
        try:
            head = json.loads((path / "cache.json").read_text(encoding="utf-8"))
            if head["hash"] != key(dataset):
                raise UserError(
                    f"data.cache {path}: was made with other options or other samples, namely "
                    f"{json.dumps(head['of'])[:200]}: make it again, in another folder"
                )
            index: dict[str, dict[str, tuple[str, int, list[int], str]]] = {m: {} for m in dataset.decoded}
            for modality in dataset.decoded:
                for number in range(len(chunks(len(dataset)))):
                    name = f"{modality}-{number:05d}"
                    held = json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
                    index[modality] |= {sample: (f"{name}.bin", *entry) for sample, entry in held.items()}
        except FileNotFoundError as error:
            raise UserError(
                f"data.cache {path}: {Path(str(error.filename)).name} is not there: fill the folder with cpsc data "
                "prepare --cache, which goes on where it was stopped"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"data.cache {path}: is not a readable cache ({reason(error)})") from None
        return cls(path, index)

    def read(self, modality: str, sample: str) -> NDArray[Any]:
        """Return an array without reading what is not looked at of it."""
        if sample not in self._index[modality]:
            raise DataError(f"data.cache {self._folder}: {sample} is not in it, since it was left out then", "missing")
        file, start, shape, kind = self._index[modality][sample]
        held = _mapped(str(self._folder / file))
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return held[start : start + size].view(kind).reshape(shape)


@lru_cache(maxsize=512)
def _mapped(file: str) -> NDArray[np.uint8]:
    try:
        return np.memmap(file, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be mapped into memory ({reason(error)})") from None


def key(dataset: Stored) -> str:
    """Return a hash of all that the content of a cache depends on: options of the decoding, and the samples."""
    return hashlib.sha256(json.dumps([describe(dataset), list(dataset.ids)]).encode()).hexdigest()


def describe(dataset: Stored) -> dict[str, Any]:
    """Return what `key` depends on beside the samples."""
    return {"format": FORMAT} | {m: dataset.recipe(m) for m in dataset.decoded}


def chunks(samples: int) -> list[range]:
    """Return the rows of each chunk."""
    return [range(start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]


def begin(folder: Path, dataset: Stored) -> None:
    """Make the folder of a cache, or go on in one of the same options.

    Raises
    ------
    UserError
        If another cache lies there, or the folder cannot be made.
    """
    head = {"hash": key(dataset), "of": describe(dataset), "samples": len(dataset)}
    file = folder / "cache.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            if json.loads(file.read_text(encoding="utf-8")).get("hash") != head["hash"]:
                raise UserError(f"{folder}: holds a cache of other options or other samples: choose another folder")
            return
        file.write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}: cannot be used for a cache ({reason(error)})") from None


def write_chunk(folder: Path, dataset: Stored, number: int, kept: AbstractSet[str]) -> int:
    """Decode the samples of a chunk that are kept, and write them. Return the bytes.

    A chunk that is there already is left alone.
    """
    written = 0
    for modality in dataset.decoded:
        name = folder / f"{modality}-{number:05d}"
        if name.with_suffix(".json").is_file():
            continue
        index: dict[str, tuple[int, list[int], str]] = {}
        partial = name.with_suffix(".partial")
        with partial.open("wb") as file:
            for row in chunks(len(dataset))[number]:
                sample = dataset.ids[row]
                if sample not in kept:
                    continue
                array = dataset.decode(modality, row)
                index[sample] = (file.tell(), list(array.shape), array.dtype.str)
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(b"\0" * (-file.tell() % 16))  # every array begins where any type may
            written += file.tell()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(name.with_suffix(".bin"))
        partial.write_text(json.dumps(index), encoding="utf-8")
        partial.replace(name.with_suffix(".json"))
    return written
