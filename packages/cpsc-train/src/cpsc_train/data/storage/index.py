"""Index of packed files: the tar file, first byte, size and CRC-32 of each path, in arrays sorted by path."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import IO, NamedTuple

import numpy as np

from cpsc_train.data.storage.npz import Numbers, narrow, parse_npz
from cpsc_train.data.strings import ENCODING, StringArray
from cpsc_train.reading import LARGEST

COLUMNS = ("tar", "start", "size", "crc32")
"""Names of the arrays with a number for each path."""


class Extent(NamedTuple):
    """Where a file is: its tar file, first byte and number of bytes, and the CRC-32 of these bytes."""

    tar: str
    start: int
    size: int
    crc32: int


@dataclass(frozen=True, eq=False)
class Index:
    """Index of N packed files. A path takes about 16 bytes more than its own."""

    paths: StringArray
    """Paths from the folder of the data set, in ascending order."""
    tars: StringArray
    """Names of the tar files."""
    tar: Numbers
    """Number of the tar file of each path, (N,)."""
    start: Numbers
    """First byte of its content, (N,)."""
    size: Numbers
    """Number of bytes, (N,)."""
    crc32: Numbers
    """CRC-32 of the content, (N,)."""

    @classmethod
    def of(cls, tar: str, files: Mapping[str, tuple[int, int, int]]) -> Index:
        """Return the index of one tar file, given first byte, size and CRC-32 by path."""
        paths = sorted(files)
        numbers = np.array([files[path] for path in paths], np.uint64).reshape(-1, 3).T
        columns = [np.zeros(len(paths), np.uint8), *map(narrow, numbers)]
        return cls(StringArray.of(paths), StringArray.of([tar]), *columns)

    @classmethod
    def merged(cls, parts: Sequence[Index]) -> Index:
        """Return the index of all tar files of one or more indices; of a path in several of them, the first."""
        paths = StringArray.concatenated([part.paths for part in parts])
        order = paths.order()
        paths = paths.take(order)
        new = np.ones(len(paths), np.bool_)
        new[1:] = np.fromiter((a != b for a, b in pairwise(paths.all_encoded())), np.bool_, max(len(paths) - 1, 0))
        if not new.all():
            paths, order = paths.take(np.flatnonzero(new)), order[new]
        first = np.cumsum([0, *(len(part.tars) for part in parts)])
        tar = np.concatenate([part.tar + shift for part, shift in zip(parts, first[:-1], strict=True)])
        columns = [tar, *(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS[1:])]
        tars = StringArray.concatenated([part.tars for part in parts])
        return cls(paths, tars, *(narrow(column[order]) for column in columns))

    def write(self, file: IO[bytes]) -> None:
        """Write the index as an ``.npz`` file, uncompressed."""
        arrays = {name: getattr(self, name) for name in COLUMNS}
        arrays |= self.paths.to_arrays("paths") | self.tars.to_arrays("tars")
        np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def parse(cls, content: bytes) -> Index:
        """Return an index that `write` wrote.

        Raises ValueError if it is damaged: if it is cut off, an array is missing or has another type or length, paths
        are not sorted and different, or a file is not in a tar file next to the index, or too large.
        """
        arrays = parse_npz(io.BytesIO(content), len(content))
        paths, tars = (StringArray.from_arrays(arrays, name) for name in ("paths", "tars"))
        for name in COLUMNS:
            array = arrays.get(name, np.array(0))
            if array.dtype.kind != "u" or array.shape != (len(paths),):
                raise ValueError(
                    f"{name} must hold {len(paths)} unsigned integers, got {array.dtype} of shape {array.shape}"
                )
        index = cls(paths, tars, *(arrays[name] for name in COLUMNS))
        index._check()
        return index

    def _check(self) -> None:
        _check_paths(self.paths)
        for tar in self.tars:
            if "/" in tar or ".." in tar:
                raise ValueError(f"{tar!r} must be a tar file next to the index")
        if not len(self.paths):
            return
        if self.tar.max() >= len(self.tars):
            raise ValueError(f"tar must be below {len(self.tars)}, the number of tar files, got {self.tar.max()}")
        if self.size.max() > LARGEST:
            path, size = self.paths[int(self.size.argmax())], self.size.max()
            raise ValueError(f"{path!r} must have at most {LARGEST:,} bytes, got {size:,}")

    def extent(self, path: str) -> Extent | None:
        """Return where a file is; None if there is no such path."""
        row = self._row(text := path.encode(*ENCODING))
        if row == len(self.paths) or self.paths.encoded(row) != text:
            return None
        return Extent(self.tars[int(self.tar[row])], int(self.start[row]), int(self.size[row]), int(self.crc32[row]))

    def is_folder(self, path: str) -> bool:
        """Return whether a path begins with this folder; the folder of the data set is ``""``."""
        prefix = _prefix(path)
        row = self._row(prefix)
        return row < len(self.paths) and self.paths.encoded(row).startswith(prefix)

    def names(self, folder: str) -> list[str]:
        """Return the names of files and folders in a folder, in ascending order."""
        prefix, names = _prefix(folder), set()
        row, stop = self._row(prefix), self._row(_after(prefix)) if prefix else len(self.paths)
        while row < stop:
            name, slash, _ = self.paths.encoded(row)[len(prefix) :].partition(b"/")
            names.add(name)
            row = self._row(_after(prefix + name + slash), row) if slash else row + 1
        return [name.decode(*ENCODING) for name in sorted(names)]

    def _row(self, text: bytes, start: int = 0) -> int:
        """Return the row of the first path, from `start` on, that is not less than `text`."""
        return bisect_left(range(len(self.paths)), text, start, key=self.paths.encoded)


def _prefix(folder: str) -> bytes:
    return f"{folder}/".encode(*ENCODING) if folder else b""


def _after(prefix: bytes) -> bytes:
    """Return what follows all paths that begin with `prefix`, which ends in a slash."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _check_paths(paths: StringArray) -> None:
    """Refuse paths that are not sorted, are repeated, or have a part that is no name."""
    for last, path in pairwise(chain([b""], paths.all_encoded())):
        parts = b"/%b/" % path
        if b"//" in parts or b"/./" in parts or b"/../" in parts:
            raise ValueError(f"paths must be names divided by single slashes, got {path.decode(*ENCODING)!r}")
        if last >= path:
            one, other = (text.decode(*ENCODING) for text in (last, path))
            raise ValueError(f"paths must be sorted and different, got {other!r} after {one!r}")
