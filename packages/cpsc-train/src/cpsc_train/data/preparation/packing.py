"""Packing all files of a data set into tar files, which `media.packed` reads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import DataConfig, Dataset
from cpsc_train.data.preparation.work import Advance, nothing, refuse_small, some, total
from cpsc_train.data.storage.files import Place, check_root, recorded
from cpsc_train.data.storage.packed import CHECKSUMS, INDEX, Packed, Reference
from cpsc_train.data.storage.store import open_store
from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.runs.lock import held
from cpsc_train.writing import make_folder, refuse_link

HEAD = "packing.json"
SAMPLES = 256
"""Samples a tar file."""


def pack(config: DataConfig, out: str, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Pack all files of a data set into tar files and an index; goes on where it was stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `Packing.of`; or if the disk is too small, or what is there cannot be written.
    """
    packing = Packing.of(config, out)
    if "://" not in out:
        sizes = [_size(packing.dataset, row) for row in some(len(packing.dataset))]
        refuse_small(Path(out), round(float(np.mean(sizes)) * len(packing.dataset)))
    with _only_writer(out):
        packing.begin()
        written = total(packing.write, [f"tar file {number}" for number in range(packing.count)], workers, advance)
        packing.finish()
    return written


@contextmanager
def _only_writer(out: str) -> Iterator[None]:
    """Be the only process that packs into a folder, in which nothing may be a link; a store has neither."""
    if "://" in out:
        yield
        return
    folder = Path(out)
    make_folder(folder)
    for path in folder.iterdir():
        refuse_link(path)
    with held(folder, busy="packing into it"):
        yield


@dataclass(frozen=True)
class Packing:
    """What is packed, and where to.

    Parameters
    ----------
    dataset
        What is packed.
    root
        The folder that it was read from.
    lists
        Files of the data set as a whole.
    out
        A folder, or an address.
    """

    dataset: Dataset
    root: Place
    lists: tuple[Place, ...]
    out: str
    samples: int
    """Samples a tar file."""

    @classmethod
    def of(cls, config: DataConfig, out: str) -> Packing:
        """Open a data set, and note which files it is opened from.

        Raises
        ------
        UserError
            As `DataConfig.open`; or if its samples are not files, or it is packed already.
        """
        root = check_root(config.root) if hasattr(config, "root") else None
        if root is None:
            raise UserError(f"{config.name} is embedded: there is nothing to pack")
        if isinstance(root, Packed):
            raise UserError(f"{root} is packed already")
        with recorded() as lists:
            dataset = config.open()
        of_samples = {str(place) for row in range(len(dataset)) for place in dataset.sources(row).values()}
        if not of_samples:
            raise UserError(f"{config.name}: all samples lie in one file here: use cpsc data prepare --cache")
        return cls(dataset, root, tuple(place for place in lists if str(place) not in of_samples), out, SAMPLES)

    def begin(self) -> None:
        """Say which data set is packed here, or go on with it.

        Raises
        ------
        UserError
            If another is packed here.
        """
        samples = [[i, *map(str, self.dataset.sources(row).values())] for row, i in enumerate(self.dataset.ids)]
        head = json.dumps({"hash": hashlib.sha256(json.dumps(samples).encode()).hexdigest(), "samples": len(samples)})
        system, base = open_store(self.out)
        with _told(self.out):
            system.makedirs(base, exist_ok=True)
            if not system.exists(f"{base}/{HEAD}") or _half(system, base):
                _put(system, f"{base}/{HEAD}", head.encode())
            elif system.cat_file(f"{base}/{HEAD}").decode(errors="replace") != head:
                raise UserError(f"{self.out}: other samples are packed here: choose another place")

    @property
    def count(self) -> int:
        """Number of tar files of samples."""
        return -(-len(self.dataset) // self.samples)

    def write(self, number: int) -> int:
        """Write a tar file of samples and then its index; one that is there already is left alone. Return the bytes.

        Samples are in an order drawn once, so that who reads a file from its beginning meets all classes.
        """
        order = np.random.default_rng(0).permutation(len(self.dataset))
        name = f"samples-{number:05d}"
        rows = order[number * self.samples : (number + 1) * self.samples]
        return self._write(name, (member for row in rows for member in self._members(int(row))))

    def finish(self) -> None:
        """Write the files of the data set as a whole, and the index, which makes the packed data set readable."""
        self._write(
            "lists", ((f"lists/{self._name(place)}", self._name(place), _content(place)) for place in self.lists)
        )
        system, base = open_store(self.out)
        names = ["lists", *(f"samples-{number:05d}" for number in range(self.count))]
        references: dict[str, Reference] = {}
        checksums: dict[str, int] = {}
        for name in names:
            table = parse_json(system.cat_file(f"{base}/{name}.json"))
            references |= table["refs"]
            checksums |= table[CHECKSUMS]
        with _told(self.out):
            _put(system, f"{base}/{INDEX}", _index(references, checksums))

    def _members(self, row: int) -> Iterator[tuple[str, str | None, bytes]]:
        """Return for each member its name, the path it stands for, and what it holds."""
        dataset = self.dataset
        key = dataset.ids[row].replace(".", "_")
        part = next((part for part, rows in (dataset.parts or {}).items() if row in rows), None)
        label = int(dataset.labels[row])
        about = {"id": dataset.ids[row], "label": label, "class": dataset.classes[label], "part": part}
        yield f"{key}.json", None, json.dumps(about).encode()
        for ending, place in dataset.sources(row).items():
            yield f"{key}.{ending}", self._name(place), _content(place)

    def _name(self, place: Place) -> str:
        return Path(str(place)).relative_to(str(self.root)).as_posix()

    def _write(self, name: str, members: Iterator[tuple[str, str | None, bytes]]) -> int:
        system, base = open_store(self.out)
        if _complete(system, f"{base}/{name}.json"):
            return 0
        references: dict[str, Reference] = {}
        checksums: dict[str, int] = {}
        written = 0
        with _told(self.out):
            with system.open(f"{base}/{name}.partial", "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
                for member, path, held in members:
                    info = tarfile.TarInfo(member)
                    info.size = len(held)
                    tar.addfile(info, io.BytesIO(held))
                    written = tar.offset
                    if path is not None:
                        references[path] = (f"{name}.tar", written - -(-len(held) // 512) * 512, len(held))
                        checksums[path] = zlib.crc32(held)
            system.mv(f"{base}/{name}.partial", f"{base}/{name}.tar")
            _put(system, f"{base}/{name}.json", _index(references, checksums))
        return written


def _half(system: Any, base: str) -> bool:
    """Return whether a process was killed while it wrote the head, before which nothing else is written."""
    try:
        parse_json(system.cat_file(f"{base}/{HEAD}"))
    except ValueError:
        return not system.glob(f"{base}/*.tar")
    return False


def _put(system: Any, path: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    system.pipe_file(f"{path}.partial", content)
    system.mv(f"{path}.partial", path)


def _complete(system: Any, path: str) -> bool:
    """Return whether an index is there, whole and with checksums, which those of earlier versions lack."""
    try:
        return CHECKSUMS in parse_json(system.cat_file(path))
    except (FileNotFoundError, ValueError, TypeError):
        return False


def _index(references: Mapping[str, Reference], checksums: Mapping[str, int]) -> bytes:
    return json.dumps({"version": 1, "refs": references, CHECKSUMS: checksums}).encode()


@contextmanager
def _told(out: str) -> Iterator[None]:
    """Say where it was that writing failed."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each store's client has errors of its own
        if out_of_memory(error):
            raise
        raise UserError(f"{out}: cannot be written ({reason(error)})") from None


def _content(place: Place) -> bytes:
    try:
        return place.read_bytes()
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({reason(error)})") from None


def _size(dataset: Dataset, row: int) -> int:
    return sum(len(_content(place)) + 1024 for place in dataset.sources(row).values())
