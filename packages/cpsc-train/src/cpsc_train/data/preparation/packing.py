"""Packing of the files of a data set into tar files, which `storage.packed` reads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import DataConfig, Dataset
from cpsc_train.data.preparation.work import Advance, refuse_small, silent, total
from cpsc_train.data.storage.files import Place, check_root, recorded
from cpsc_train.data.storage.index import Index
from cpsc_train.data.storage.packed import HEAD, INDEX, Packed
from cpsc_train.data.storage.store import open_store
from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.writing import locked, make_folder, refuse_link

SAMPLES = 256
"""Samples per tar file."""
T = TypeVar("T")
Member = tuple[str, str | None, bytes]
"""Name in the tar file, path in the data set or None, and content."""


def pack(config: DataConfig, out: str, *, workers: int = 0, advance: Advance = silent) -> int:
    """Pack the files of a data set into tar files and an index, resuming where an earlier call stopped.

    Return the number of bytes written.

    Raises
    ------
    UserError
        As `DataConfig.open`; if its samples are not files, or are packed already; or if the disk is too small, or `out`
        cannot be written or holds other samples.
    """
    if not hasattr(config, "root"):
        raise UserError(f"{config.name} is embedded: there is nothing to pack")
    if Path(config.root).is_file():
        raise UserError(f"{config.root}: only a folder can be packed: use cpsc data prepare --cache")
    root = check_root(config.root)
    if isinstance(root, Packed):
        raise UserError(f"{root} is packed already")
    with recorded() as files:
        dataset = config.open()
    rows = range(len(dataset))
    others = {str(place): place for place in files}
    for row in rows:
        for place in dataset.sources(row).values():
            others.pop(str(place), None)
    if not any(dataset.sources(row) for row in rows):
        raise UserError(f"{config.name}: all samples are in one file here: use cpsc data prepare --cache")
    if "://" not in out:
        refuse_small(Path(out), len(rows), lambda k: sum(len(_read(p)) + 1024 for p in dataset.sources(k).values()))
    # In an order drawn once, so that the first tar files hold all classes.
    order = np.random.default_rng(0).permutation(len(rows))
    packing = _Packing(dataset, str(root), out, [order[k : k + SAMPLES] for k in rows[::SAMPLES]])
    with _only_writer(out):
        packing.begin()
        names = [f"tar file {number}" for number in range(len(packing.groups))]
        written = total(packing.write_samples, names, workers, advance)
        packing.finish(others.values())
    return written


@contextmanager
def _only_writer(out: str) -> Iterator[None]:
    """Lock a folder, in which nothing may be a link; a store has neither locks nor links."""
    if "://" in out:
        yield
        return
    folder = Path(out)
    make_folder(folder)
    for path in folder.iterdir():
        refuse_link(path)
    with locked(folder, busy="packing into it"):
        yield


@dataclass(frozen=True)
class _Packing:
    """A data set, its folder, where it is packed, and the rows of each tar file."""

    dataset: Dataset
    root: str
    out: str
    groups: list[NDArray[np.int64]]

    def begin(self) -> None:
        """Write the head, or accept that of the same samples; raise UserError if others are packed in `out`."""
        samples = hashlib.sha256()
        for row, sample in enumerate(self.dataset.ids):
            samples.update(json.dumps([sample, *map(str, self.dataset.sources(row).values())]).encode())
        head = {"hash": samples.hexdigest(), "samples": len(self.dataset)}
        system, base = open_store(self.out)
        with _naming(self.out):
            system.makedirs(base, exist_ok=True)
            exists = system.exists(f"{base}/{HEAD}")
            existing = _load(system, f"{base}/{HEAD}", parse_json)
            # A kill can leave a damaged head, but only before anything else is written.
            damaged = exists and existing is None and system.glob(f"{base}/*.tar")
            if damaged or existing not in (None, head):
                raise UserError(f"{self.out}: other samples are packed here: choose another place")
            if existing is None:
                _put(system, f"{base}/{HEAD}", lambda file: file.write(json.dumps(head).encode()))

    def write_samples(self, number: int) -> int:
        """Write a tar file of samples and then its index, unless it is there already. Return the bytes written."""
        return self._write(
            f"samples-{number:05d}", (member for row in self.groups[number] for member in self._members(int(row)))
        )

    def finish(self, lists: Iterable[Place]) -> None:
        """Write the files of the data set that belong to no sample, and the index of all tar files."""
        self._write("lists", ((f"lists/{self._name(place)}", self._name(place), _read(place)) for place in lists))
        system, base = open_store(self.out)
        names = ["lists", *(f"samples-{number:05d}" for number in range(len(self.groups)))]
        with _naming(self.out):
            index = Index.merged([Index.parse(system.cat_file(f"{base}/{name}.npz")) for name in names])
            _put(system, f"{base}/{INDEX}", index.write)

    def _members(self, row: int) -> Iterator[Member]:
        dataset = self.dataset
        key = dataset.ids[row].replace(".", "_")
        part = self._parts[row] if self._parts else None
        label = int(dataset.labels[row])
        about = {"id": dataset.ids[row], "label": label, "class": dataset.classes[label], "part": part}
        yield f"{key}.json", None, json.dumps(about).encode()
        for ending, place in dataset.sources(row).items():
            yield f"{key}.{ending}", self._name(place), _read(place)

    @cached_property
    def _parts(self) -> list[str | None]:
        """The official part of each row; empty if there are none."""
        parts: list[str | None] = [None] * len(self.dataset) if self.dataset.parts else []
        for part, rows in (self.dataset.parts or {}).items():
            for row in rows:
                parts[row] = part
        return parts

    def _name(self, place: Place) -> str:
        return Path(str(place)).relative_to(self.root).as_posix()

    def _write(self, name: str, members: Iterator[Member]) -> int:
        system, base = open_store(self.out)
        extents: dict[str, tuple[int, int, int]] = {}
        with _naming(self.out):
            if _is_written(system, f"{base}/{name}"):
                return 0
            with system.open(f"{base}/{name}.partial", "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
                for member, path, content in members:
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                    if path is not None:
                        start = tar.offset - -(-info.size // 512) * 512
                        extents[path] = (start, info.size, zlib.crc32(content))
                written = tar.offset
            system.mv(f"{base}/{name}.partial", f"{base}/{name}.tar")
            _put(system, f"{base}/{name}.npz", Index.of(f"{name}.tar", extents).write)
        return written


def _put(system: Any, path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file completely or not at all."""
    with system.open(f"{path}.partial", "wb") as file:
        write(file)
    system.mv(f"{path}.partial", path)


def _is_written(system: Any, path: str) -> bool:
    """Return whether there is an index of a tar file, and the tar file is as long as the index states."""
    index = _load(system, f"{path}.npz", Index.parse)
    if index is None or not system.exists(f"{path}.tar"):
        return False
    ends = index.start.astype(np.uint64) + index.size
    return bool(system.size(f"{path}.tar") >= ends.max(initial=0))


def _load(system: Any, path: str, parse: Callable[[bytes], T]) -> T | None:
    """Return the content of a file, or None if it is missing or damaged."""
    try:
        return parse(system.cat_file(path))
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _naming(out: str) -> Iterator[None]:
    """Name the place that cannot be written."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every store's client has its own errors
        if out_of_memory(error):
            raise
        raise UserError(f"{out}: cannot be written ({reason(error)})") from None


def _read(place: Place) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({reason(error)})") from None
