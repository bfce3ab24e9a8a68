"""Filling a cache, which `media.cache` reads, with what a data set decodes."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import DataConfig, whole_of
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.preparation.work import Advance, nothing, refuse_small, some, total
from cpsc_train.data.storage.cache import chunks
from cpsc_train.errors import UserError
from cpsc_train.reading import read_file
from cpsc_train.runs.lock import held
from cpsc_train.writing import make_folder, replacing, write


def fill_cache(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Decode everything into memory-mapped files; goes on where it was stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set is not read from files, the disk is too small, or another cache is there.
    """
    dataset = config.open()
    whole = whole_of(dataset)
    if not isinstance(whole, Stored):
        raise UserError(f"{config.name}: its samples are in memory already: there is nothing to cache")
    kept = frozenset(dataset.ids)
    refuse_small(out, _estimate(whole, [row for row, sample in enumerate(whole.ids) if sample in kept]))
    parts = chunks(len(whole))
    names = [f"one of {len(rows)} samples from {whole.ids[rows[0]]} on" for rows in parts]
    make_folder(out)
    with held(out, busy="filling it"):
        _begin(out, whole)
        return total(_Chunks(out, whole, kept, parts), names, workers, advance)


@dataclass(frozen=True)
class _Chunks:
    out: Path
    dataset: Stored
    kept: frozenset[str]
    parts: list[range]

    def __call__(self, number: int) -> int:
        return _write_chunk(self.out / f"{number:05d}", self.dataset, self.parts[number], self.kept)


def _begin(folder: Path, dataset: Stored) -> None:
    """Write the head of a cache into a folder, or go on in one of the same options.

    Raises
    ------
    UserError
        If another cache lies there, or one whose head is damaged.
    """
    head = {"hash": dataset.cache_key(), "of": dataset.decoding(), "samples": len(dataset)}
    file = folder / "cache.json"
    if file.is_file():
        try:
            there = parse_json(read_file(file))["hash"]
        except (OSError, ValueError, TypeError, LookupError):
            there = None  # of a process that was killed while it wrote, where nothing else is there yet
        if there == head["hash"]:
            return
        if there is not None or any(folder.glob("*-*.json")):
            raise UserError(f"{folder}: holds a cache of other options or other samples: choose another folder")
    write(file, json.dumps(head, indent=1) + "\n")


def _write_chunk(place: Path, dataset: Stored, rows: range, kept: AbstractSet[str]) -> int:
    """Decode the samples of a chunk that are kept, and write them to `place`, one file a modality. Return the bytes.

    A chunk that is there already is left alone.
    """
    written = 0
    for modality in dataset.decoded:
        name = place.with_name(f"{modality}-{place.name}")
        if name.with_suffix(".json").is_file():
            continue
        index: dict[str, tuple[int, list[int], str]] = {}
        with replacing(name.with_suffix(".bin")) as file:
            for row in rows:
                sample = dataset.ids[row]
                if sample not in kept:
                    continue
                array = dataset.decode(modality, row)
                index[sample] = (file.tell(), list(array.shape), array.dtype.str)
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(b"\0" * (-file.tell() % 16))  # every array begins where any type may
            written += file.tell()
        write(name.with_suffix(".json"), json.dumps(index))
    return written


def _estimate(dataset: Stored, rows: list[int]) -> int:
    """Return about how many bytes the decoded samples take, by looking at a few."""
    sizes = [sum(dataset.decode(m, rows[k]).nbytes for m in dataset.decoded) for k in some(len(rows))]
    return round(float(np.mean(sizes)) * len(rows))
