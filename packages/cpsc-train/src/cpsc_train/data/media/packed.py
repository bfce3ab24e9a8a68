"""A data set packed into tar files, read where it lies: on a disk or in an object store.

The tar files follow the convention of WebDataset: what belongs to a sample has one key, and a ``.json`` beside it says
which sample it is. ``index.json`` holds for each file of the data set the tar, the first byte and the number of bytes,
in the format of Kerchunk's references. An adapter sees the same folders and files as before; each file is one ranged
read through fsspec, so that nothing is copied to a disk, and order, augmentation and results are those of the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs

from cpsc_train.config import parse_json
from cpsc_train.errors import UserError, reason

INDEX = "index.json"
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
    """

    root: str
    references: Mapping[str, Reference]
    _inner: dict[str, set[str]] = field(default_factory=dict)
    _systems: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.references:
            parts = PurePosixPath(path).parts
            for depth in range(len(parts)):
                self._inner.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def inner(self, path: str) -> set[str] | None:
        """Return the names in a folder, or ``None`` if there is none."""
        return self._inner.get(path)

    def read(self, path: str) -> bytes:
        """Return a file by one ranged read."""
        if path not in self.references:
            raise FileNotFoundError(path)
        shard, start, size = self.references[path]
        if os.getpid() not in self._systems:  # connections do not survive a fork
            self._systems[os.getpid()] = open_store(self.root)
        system, base = self._systems[os.getpid()]
        try:
            held = system.cat_file(f"{base}/{shard}", start=start, end=start + size)
        except OSError:
            raise
        except Exception as error:  # each store's client has errors of its own
            raise OSError(f"{self.root}/{shard}: {reason(error)}") from error
        if len(held) != size:
            wrong = "is cut off" if len(held) < size else "is on a server that gives whole files only"
            raise OSError(f"{self.root}/{shard} {wrong}")
        return bytes(held)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "references": self.references, "_inner": self._inner, "_systems": {}}


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
    system, base = open_store(root)
    try:
        table = parse_json(system.cat_file(f"{base}/{INDEX}"))
        references = {str(path): (str(shard), int(a), int(n)) for path, (shard, a, n) in table["refs"].items()}
    except FileNotFoundError:
        raise UserError(f"{root}/{INDEX}: no such file: pack the data set with cpsc data prepare --shards") from None
    except Exception as error:  # each store's client has errors of its own, and an index may hold anything
        raise UserError(f"{root}/{INDEX}: is not a readable index of packed files ({reason(error)})") from None
    for path, (shard, start, size) in references.items():
        if start < 0 or size < 0 or "/" in shard or ".." in shard:
            raise UserError(f"{root}/{INDEX}: {path!r} must lie in a tar file beside the index")
    return Packed(Store(root.rstrip("/"), references))


def open_store(root: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        system, base = url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root}: cannot be opened ({reason(error)})") from None
    return system, str(base).rstrip("/")
