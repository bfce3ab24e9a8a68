"""Data sets packed into tar files on a disk or in an object store, read in place.

The tar files follow the convention of WebDataset: the files of a sample share one key, and a ``.json`` beside them
describes the sample. ``index.json`` maps each file of the data set to its tar file, first byte and number of bytes, in
the format of Kerchunk's references, with a CRC-32 that detects wrong bytes. An adapter sees the same folders and files
as before; each file is one ranged read through fsspec, so order, augmentation and results do not change.

fsspec's own file system of references is not used: a file of 20 kB on a disk takes three times as long (150 instead of
46 µs), it wraps all errors in one, and checksums, retries and time limits are needed anyway.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from cpsc_train.config import parse_json
from cpsc_train.data.storage.store import StoreReader
from cpsc_train.errors import UserError
from cpsc_train.reading import LARGEST

INDEX = "index.json"
CHECKSUMS = "crc32"
"""Key of the checksums in the index; readers of Kerchunk's references ignore it."""
Reference = tuple[str, int, int]
"""Tar file, first byte, number of bytes."""


@dataclass(frozen=True, eq=False)
class Store:
    """Files packed in one place."""

    root: str
    """A folder, or an address such as ``s3://bucket/folder``."""
    references: Mapping[str, Reference]
    """By path from the folder of the data set."""
    checksums: Mapping[str, int]
    """CRC-32 by path; may be empty."""

    @cached_property
    def folders(self) -> Mapping[str, set[str]]:
        """Names in each folder, by its path."""
        names: dict[str, set[str]] = {}
        for path in self.references:
            folder, _, name = path.rpartition("/")
            while name and name not in names.setdefault(folder, set()):
                names[folder].add(name)
                folder, _, name = folder.rpartition("/")
        return names

    def read(self, path: str) -> bytes:
        """Return a file by one ranged read.

        Raises FileNotFoundError if there is no such file. Raises OSError if it cannot be read, or its bytes are not
        those that were packed; names the tar file.
        """
        if path not in self.references:
            raise FileNotFoundError(path)
        shard, start, size = self.references[path]

        def accept(content: bytes) -> bytes:
            if len(content) != size:
                raise OSError("is cut off" if len(content) < size else "is on a server without range requests")
            if zlib.crc32(content) != self.checksums.get(path, zlib.crc32(content)):
                raise OSError(f"the {size:,} bytes from byte {start:,} on are not those that were packed")
            return content

        return _reader(self, os.getpid()).read(shard, accept, start, size)


@lru_cache(maxsize=16)
def _reader(store: Store, _process: int) -> StoreReader:
    """Return the connection of a process, since none survives a fork."""
    return StoreReader(store.root)


class Packed:
    """A path within a store, with the part of the interface of ``pathlib.Path`` that adapters use."""

    def __init__(self, store: Store, path: str = "") -> None:
        pure = PurePosixPath(path)
        self.store, self.path = store, path
        self.name, self.stem, self.suffix = pure.name, pure.stem, pure.suffix

    @property
    def parent(self) -> Packed:
        """The parent folder."""
        return Packed(self.store, self.path.rpartition("/")[0])

    def __truediv__(self, other: str) -> Packed:
        return Packed(self.store, str(PurePosixPath(self.path) / other))

    def __lt__(self, other: Packed) -> bool:
        return self.path.split("/") < other.path.split("/")

    def __str__(self) -> str:
        return f"{self.store.root}/{self.path}".rstrip("/")

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return self.path in self.store.folders

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self.path in self.store.references

    def iterdir(self) -> Iterator[Packed]:
        """Return the paths in the folder."""
        if not self.is_dir():
            raise FileNotFoundError(str(self))
        return (self / name for name in sorted(self.store.folders[self.path]))

    def read_bytes(self) -> bytes:
        """Return the content of the file."""
        return self.store.read(self.path)


def open_packed(root: str) -> Packed | None:
    """Return a packed data set, or ``None`` for a local folder without an index.

    Raises UserError if an address cannot be reached, or the index is damaged.
    """
    if "://" not in root and not (Path(root) / INDEX).is_file():
        return None
    try:
        references, checksums = StoreReader(root.rstrip("/")).read(INDEX, _parse)
    except FileNotFoundError:
        raise UserError(f"{root}/{INDEX}: no such file: pack the data set with cpsc data prepare --shards") from None
    except OSError as error:
        raise UserError(f"the index of packed files cannot be read ({error})") from None
    for path, (shard, start, size) in references.items():
        if start < 0 or size < 0 or "/" in shard or ".." in shard:
            raise UserError(f"{root}/{INDEX}: {path!r} must be in a tar file next to the index")
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
