"""A data set packed into tar files, read where it lies: on a disk or in an object store.

The tar files follow the convention of WebDataset: what belongs to a sample has one key, and a ``.json`` beside it says
which sample it is. ``index.json`` holds for each file of the data set the tar, the first byte and the number of bytes,
in the format of Kerchunk's references, and beside them a CRC-32, so that wrong bytes are refused. An adapter sees the
same folders and files as before; each file is one ranged read through fsspec, so that nothing is copied to a disk, and
order, augmentation and results are those of the files.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cpsc_train.config import parse_json
from cpsc_train.data.storage.store import StoreReader
from cpsc_train.errors import UserError
from cpsc_train.reading import LARGEST

INDEX = "index.json"
CHECKSUMS = "crc32"
"""What the index calls the checksums by path; readers of Kerchunk's references leave it alone."""
Reference = tuple[str, int, int]
"""Tar file, first byte, number of bytes."""


@dataclass(frozen=True)
class Store:
    """Where packed files lie.

    Parameters
    ----------
    root
        A folder, or an address such as ``s3://bucket/folder``.
    references
        By path from the folder of the data set.
    checksums
        CRC-32 by path; empty if it was packed before there were any.
    """

    root: str
    references: Mapping[str, Reference]
    checksums: Mapping[str, int] = field(default_factory=dict)
    _inner: dict[str, set[str]] = field(default_factory=dict)
    _readers: dict[int, StoreReader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.references:
            parts = PurePosixPath(path).parts
            for depth in range(len(parts)):
                self._inner.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def inner(self, path: str) -> set[str] | None:
        """Return the names in a folder, or ``None`` if there is none."""
        return self._inner.get(path)

    def read(self, path: str) -> bytes:
        """Return a file by one ranged read.

        Raises
        ------
        FileNotFoundError
            If there is none.
        OSError
            If it cannot be read, or its bytes are not those that were packed; names the tar file.
        """
        if path not in self.references:
            raise FileNotFoundError(path)
        shard, start, size = self.references[path]

        def accept(answer: bytes) -> bytes:
            if len(answer) != size:
                raise OSError("is cut off" if len(answer) < size else "is on a server that gives whole files only")
            if zlib.crc32(answer) != self.checksums.get(path, zlib.crc32(answer)):
                raise OSError(f"the {size:,} bytes from byte {start:,} on are not those that were packed")
            return answer

        if os.getpid() not in self._readers:  # connections do not survive a fork
            self._readers[os.getpid()] = StoreReader(self.root)
        return self._readers[os.getpid()].read(shard, accept, start, size)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": {}}


@dataclass(frozen=True)
class Packed:
    """A path within a store; as much of ``pathlib.Path`` as adapters use."""

    store: Store
    path: str = ""

    @property
    def name(self) -> str:
        """Last part."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """Last part, without what follows its last dot."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """The last dot and what follows it."""
        return PurePosixPath(self.path).suffix

    @property
    def parent(self) -> Packed:
        """The folder it is in."""
        above = str(PurePosixPath(self.path).parent)
        return Packed(self.store, "" if above == "." else above)

    def __truediv__(self, other: str) -> Packed:
        return Packed(self.store, str(PurePosixPath(self.path) / other))

    def __lt__(self, other: Packed) -> bool:
        return self.path.split("/") < other.path.split("/")

    def __str__(self) -> str:
        return f"{self.store.root}/{self.path}".rstrip("/")

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.store.inner(self.path) is not None

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.path in self.store.references

    def iterdir(self) -> Iterator[Packed]:
        """Return what lies in the folder."""
        names = self.store.inner(self.path)
        if names is None:
            raise FileNotFoundError(str(self))
        return (self / name for name in sorted(names))

    def read_bytes(self) -> bytes:
        """Return what the file holds."""
        return self.store.read(self.path)


def open_packed(root: str) -> Packed | None:
    """Return a packed data set, or ``None`` where a folder of files, or nothing, lies on the disk.

    Raises
    ------
    UserError
        If an address cannot be reached, or the index is damaged.
    """
    remote = "://" in root
    if not remote and not (Path(root) / INDEX).is_file():
        return None
    try:
        references, checksums = StoreReader(root.rstrip("/")).read(INDEX, _parse)
    except FileNotFoundError:
        raise UserError(f"{root}/{INDEX}: no such file: pack the data set with cpsc data prepare --shards") from None
    except OSError as error:
        raise UserError(f"the index of packed files cannot be read ({error})") from None
    for path, (shard, start, size) in references.items():
        if start < 0 or size < 0 or "/" in shard or ".." in shard:
            raise UserError(f"{root}/{INDEX}: {path!r} must lie in a tar file beside the index")
        if size > LARGEST:
            raise UserError(f"{root}/{INDEX}: {path!r} must have at most {LARGEST:,} bytes, got {size:,}")
    return Packed(Store(root.rstrip("/"), references, checksums))


def _parse(text: bytes) -> tuple[dict[str, Reference], dict[str, int]]:
    table = parse_json(text)
    references = {str(path): (str(shard), int(a), int(n)) for path, (shard, a, n) in table["refs"].items()}
    checksums = {str(path): int(crc) for path, crc in table.get(CHECKSUMS, {}).items()}
    if CHECKSUMS in table and checksums.keys() != references.keys():
        raise ValueError(f"{CHECKSUMS} and refs must name the same files")
    return references, checksums
