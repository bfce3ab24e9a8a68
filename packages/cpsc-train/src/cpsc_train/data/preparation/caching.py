"""Filling of a cache with the decoded samples of a data set."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

import numpy as np

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import DataConfig, unfiltered
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.preparation.work import Advance, refuse_small, silent, total
from cpsc_train.data.storage.cache import chunks
from cpsc_train.errors import UserError
from cpsc_train.lock import locked
from cpsc_train.reading import read_file
from cpsc_train.writing import make_folder, replacing, write


def fill_cache(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = silent) -> int:
    """Decode a data set into memory-mapped files, resuming where an earlier call stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set is not read from files, the disk is too small, or `out` holds another
        cache.
    """
    kept = config.open()
    dataset = unfiltered(kept)
    if not isinstance(dataset, Stored):
        raise UserError(f"{config.name}: its samples are in memory already: there is nothing to cache")
    ids = frozenset(kept.ids)
    rows = [row for row, sample in enumerate(dataset.ids) if sample in ids]
    refuse_small(out, len(rows), lambda k: sum(dataset.decode(m, rows[k]).nbytes for m in dataset.decoded))
    parts = chunks(len(dataset))
    names = [f"one of {len(part)} samples from {dataset.ids[part[0]]} on" for part in parts]
    make_folder(out)
    with locked(out, busy="filling it"):
        _begin(out, dataset)
        return total(partial(_write_chunk, out, dataset, parts, ids), names, workers, advance)


def _begin(folder: Path, dataset: Stored) -> None:
    """Write the head of a cache, or accept one of the same options; raise UserError for another or a damaged one."""
    head = {"hash": dataset.cache_key(), "of": dataset.decoding(), "samples": len(dataset)}
    file = folder / "cache.json"
    if file.is_file():
        try:
            existing = parse_json(read_file(file))["hash"]
        except (OSError, ValueError, TypeError, LookupError):
            existing = None  # of a process that was killed while it wrote the head, before anything else
        if existing == head["hash"]:
            return
        if existing is not None or any(folder.glob("*-*.json")):
            raise UserError(f"{folder}: holds a cache of other options or other samples: choose another folder")
    write(file, json.dumps(head, indent=1) + "\n")


def _write_chunk(folder: Path, dataset: Stored, parts: list[range], ids: AbstractSet[str], number: int) -> int:
    """Write the decoded samples of a chunk with these ids, one file per modality, unless they are there already."""
    written = 0
    for modality in dataset.decoded:
        name = folder / f"{modality}-{number:05d}"
        if name.with_suffix(".json").is_file():
            continue
        index: dict[str, tuple[int, list[int], str]] = {}
        with replacing(name.with_suffix(".bin")) as file:
            for row in parts[number]:
                sample = dataset.ids[row]
                if sample not in ids:
                    continue
                array = dataset.decode(modality, row)
                index[sample] = (file.tell(), list(array.shape), array.dtype.str)
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(b"\0" * (-file.tell() % 16))  # every array is aligned for any dtype
            written += file.tell()
        write(name.with_suffix(".json"), json.dumps(index))
    return written
