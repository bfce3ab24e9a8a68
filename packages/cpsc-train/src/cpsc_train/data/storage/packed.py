"""Data sets packed into tar files on a disk or in an object store, read in place.

The tar files follow the convention of WebDataset: the files of a sample share one key, and a ``.json`` beside them
describes the sample. ``index.npz`` holds the tar file, first byte and number of bytes of each file of the data set,
with a CRC-32 that detects wrong bytes. An adapter sees the same folders and files as before; each file is one ranged
read through fsspec, so order, augmentation and results do not change.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from cpsc_train.data.storage.index import Index
from cpsc_train.data.storage.store import StoreReader
from cpsc_train.errors import UserError

HEAD = "packing.json"
"""File that names the samples, written first."""
INDEX = "index.npz"
"""Index of all files, written last."""


@dataclass(frozen=True, eq=False)
class Store:
    """Files packed in one place."""

    root: str
    """A folder, or an address such as ``s3://bucket/folder``."""
    index: Index
    """Where each file is."""

    def read(self, path: str) -> bytes:
        """Return a file by one ranged read.

        Raises FileNotFoundError if there is no such file. Raises OSError if it cannot be read, or its bytes are not
        those that were packed; names the tar file.
        """
        extent = self.index.extent(path)
        if extent is None:
            raise FileNotFoundError(path)
        tar, start, size, crc32 = extent

        def accept(content: bytes) -> bytes:
            if len(content) != size:
                raise OSError("is cut off" if len(content) < size else "is on a server without range requests")
            if zlib.crc32(content) != crc32:
                raise OSError(f"the {size:,} bytes from byte {start:,} on are not those that were packed")
            return content

        return _reader(self, os.getpid()).read(tar, accept, start, size)


@lru_cache(maxsize=16)
def _reader(store: Store, _process: int) -> StoreReader:
    """Return the connection of a process, since none survives a fork."""
    return StoreReader(store.root)


class Packed:
    """A path within a store, with the part of the interface of ``pathlib.Path`` that adapters use."""

    def __init__(self, store: Store, path: str = "") -> None:
        self.store, self.path = store, path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last dot of the name and what follows."""
        return PurePosixPath(self.name).suffix

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
        return self.store.index.is_folder(self.path)

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self.store.index.extent(self.path) is not None

    def iterdir(self) -> Iterator[Packed]:
        """Return the paths in the folder, in ascending order of names."""
        if not self.is_dir():
            raise FileNotFoundError(str(self))
        folder = f"{self.path}/" if self.path else ""
        return (Packed(self.store, folder + name) for name in self.store.index.names(self.path))

    def read_bytes(self) -> bytes:
        """Return the content of the file."""
        return self.store.read(self.path)


def open_packed(root: str) -> Packed | None:
    """Return a packed data set, or ``None`` for a local folder without an index.

    Raises UserError if an address cannot be reached, or the index is damaged or was not written yet.
    """
    if "://" not in root and not (Path(root) / INDEX).is_file():
        if (Path(root) / HEAD).is_file():
            raise UserError(f"{root}: the packing is not complete: repeat cpsc data prepare --shards")
        return None
    try:
        index = StoreReader(root.rstrip("/")).read(INDEX, Index.parse)
    except FileNotFoundError:
        raise UserError(f"{root}/{INDEX}: no such file: pack the data set with cpsc data prepare --shards") from None
    except OSError as error:
        raise UserError(f"the index of packed files cannot be read ({error})") from None
    return Packed(Store(root.rstrip("/"), index))
