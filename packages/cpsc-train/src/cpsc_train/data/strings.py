"""Arrays of strings in the layout of Arrow: the bytes of all strings, and the offset of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from operator import eq, index
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.storage.npz import narrow

ENCODING = ("utf-8", "surrogatepass")
"""Half a surrogate pair, which JSON and names of files can hold, is kept. Bytes have the order of the characters."""
CHUNK = 2**16
"""Strings that are converted at once."""
LENGTHS = ".lengths"
"""End of the name of the array of lengths in a file."""

Rows = NDArray[np.int64]


def crc32(text: str) -> int:
    """Return the CRC-32 of a string, in [0, 2³²): a seed that is the same in every process.

    Examples
    --------
    >>> crc32("label")
    245846248
    """
    return zlib.crc32(text.encode(*ENCODING))


class StringArray(Sequence[str]):
    """An immutable sequence of N strings, which takes the bytes of their UTF-8 and 4 more each (8 beyond 4 GiB).

    - `content`: (bytes,) uint8, the UTF-8 of all strings, one after the other.
    - `offsets`: (N + 1,) unsigned integers: string n is ``content[offsets[n]:offsets[n + 1]]``.

    Examples
    --------
    >>> names = StringArray.of(["b", "cd", ""])
    >>> names[1], list(names), names.find(StringArray.of(["", "a"])).tolist()
    ('cd', ['b', 'cd', ''], [2, -1])
    """

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __init__(self, content: NDArray[np.uint8], offsets: NDArray[np.unsignedinteger[Any]]) -> None:
        self.content, self.offsets = content, offsets
        self._content, self._offsets = content.data, offsets.data  # of which one item is read faster

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.content, self.offsets)

    @classmethod
    def of(cls, texts: Iterable[str]) -> StringArray:
        """Return an array of some strings; the same object if they are one."""
        if isinstance(texts, StringArray):
            return texts
        pieces, lengths = [b""], [np.array([], np.int64)]
        iterator = iter(texts)
        while chunk := [text.encode(*ENCODING) for text in islice(iterator, CHUNK)]:
            pieces.append(b"".join(chunk))
            lengths.append(np.fromiter(map(len, chunk), np.int64, len(chunk)))
        return cls._of_lengths(np.frombuffer(b"".join(pieces), np.uint8), np.concatenate(lengths))

    @classmethod
    def numbered(cls, count: int) -> StringArray:
        """Return the numbers below `count` with as many digits as the largest of them.

        Examples
        --------
        >>> list(StringArray.numbered(11))[-2:]
        ['09', '10']
        """
        width = len(str(count - 1))
        return cls.of(f"{number:0{width}}" for number in range(count))

    @classmethod
    def concatenated(cls, parts: Sequence[StringArray]) -> Self:
        """Return the strings of all parts, in order."""
        content = [np.array([], np.uint8), *(part.content for part in parts)]
        lengths = [np.array([], np.int64), *(np.diff(part.offsets) for part in parts)]
        return cls._of_lengths(np.concatenate(content), np.concatenate(lengths))

    @classmethod
    def _of_lengths(cls, content: NDArray[np.uint8], lengths: NDArray[Any]) -> Self:
        dtype: type[np.uint32 | np.uint64] = np.uint32 if len(content) < 2**32 else np.uint64
        offsets = np.zeros(len(lengths) + 1, dtype)
        np.cumsum(lengths, out=offsets[1:], dtype=offsets.dtype)
        return cls(content, offsets)

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return content and lengths under the names ``NAME`` and ``NAME.lengths``, for an ``.npz`` file."""
        return {name: self.content, name + LENGTHS: narrow(np.diff(self.offsets))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Self:
        """Return what `to_arrays` was called on. Raises ValueError if an array is missing or damaged."""
        try:
            content, lengths = arrays[name], arrays[name + LENGTHS]
        except KeyError as error:
            raise ValueError(f"has no array {error}") from None
        if content.dtype != np.uint8 or content.ndim != 1:
            raise ValueError(f"{name} must be bytes, got {content.dtype} of shape {content.shape}")
        if lengths.dtype.kind != "u" or lengths.ndim != 1:
            raise ValueError(f"{name}{LENGTHS} must be unsigned integers, got {lengths.dtype} of shape {lengths.shape}")
        if lengths.max(initial=0) > len(content) or lengths.sum(dtype=np.uint64) != len(content):
            raise ValueError(f"{name}{LENGTHS} must add up to the {len(content):,} bytes of {name}")
        strings = cls._of_lengths(content, lengths)
        edges = strings.offsets[::CHUNK].tolist()
        for start, stop in pairwise([*edges, len(content)]):
            content[start:stop].tobytes().decode(*ENCODING)  # raises UnicodeDecodeError, a ValueError
        if ((content[strings.offsets[:-1][lengths > 0]] & 0xC0) == 0x80).any():
            raise ValueError(f"{name}{LENGTHS} must not divide a character")
        return strings

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int, /) -> str: ...
    @overload
    def __getitem__(self, place: slice, /) -> StringArray: ...
    def __getitem__(self, place: int | slice, /) -> str | StringArray:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        row, count = index(place), len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} of {count} strings")
        return self.encoded(row % count).decode(*ENCODING)

    def __iter__(self) -> Iterator[str]:
        return (text.decode(*ENCODING) for text in self.all_encoded())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StringArray):
            return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.content, other.content)
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __repr__(self) -> str:
        return f"StringArray of {len(self)} strings"

    def encoded(self, row: int) -> bytes:
        """Return the bytes of one string, with 0 ≤ `row` < N."""
        return self._content[self._offsets[row] : self._offsets[row + 1]].tobytes()

    def all_encoded(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of the strings from `start` to before `stop`, faster than one by one."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, CHUNK):
            edges = self.offsets[first : min(first + CHUNK, stop) + 1].astype(np.int64)
            text = self.content[edges[0] : edges[-1]].tobytes()
            places = (edges - edges[0]).tolist()
            yield from (text[a:b] for a, b in pairwise(places))

    def take(self, rows: Rows) -> StringArray:
        """Return the strings at `rows`, in [0, N), in that order."""
        lengths = (self.offsets[rows + 1] - self.offsets[rows]).astype(np.int64)
        content = np.empty(int(lengths.sum()), np.uint8)
        end = 0
        for first in range(0, len(rows), CHUNK):
            sizes, start = lengths[first : first + CHUNK], end
            end += int(sizes.sum())
            before = np.cumsum(sizes) - sizes
            shift = self.offsets[rows[first : first + CHUNK]].astype(np.int64) - before
            content[start:end] = self.content[np.repeat(shift, sizes) + np.arange(end - start)]
        return self._of_lengths(content, lengths)

    def find(self, wanted: StringArray) -> Rows:
        """Return the row of each wanted string, (M,); −1 for those that are not here, and any if there are several."""
        rows = np.full(len(wanted), -1, np.int64)
        known = dict(self._by_length()) if len(wanted) else {}
        for length, places in wanted._by_length():
            if length in known:
                ours, keys = self._fixed(known[length], length), wanted._fixed(places, length)
                order = np.argsort(ours, kind="stable")
                ours = ours[order]
                nearest = np.minimum(np.searchsorted(ours, keys), len(ours) - 1)
                hit = ours[nearest] == keys
                rows[places[hit]] = known[length][order[nearest[hit]]]
        return rows

    def repeated(self) -> str | None:
        """Return the first string that occurs again later; None if all are different."""
        again = []
        for length, rows in self._by_length():
            texts = self._fixed(rows, length)
            order = np.argsort(texts, kind="stable")
            same = texts[order[1:]] == texts[order[:-1]]
            again += rows[order[:-1][same]].tolist()
        return self[min(again)] if again else None

    def order(self) -> Rows:
        """Return the rows in ascending order of their strings; equal ones stay in order."""
        texts = list(self.all_encoded())
        return np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)

    def _by_length(self) -> Iterator[tuple[int, Rows]]:
        """Yield each length and the rows of that length, in order."""
        lengths = np.diff(self.offsets)
        order = np.argsort(lengths, kind="stable")
        edges = np.flatnonzero(np.diff(lengths[order], prepend=-1, append=-1)) if len(order) else np.array([], np.int64)
        for start, stop in pairwise(edges):
            yield int(lengths[order[start]]), order[start:stop]

    def _fixed(self, rows: Rows, length: int) -> NDArray[np.bytes_]:
        """Return strings of one length as an array that numpy can sort and compare."""
        if not length:
            return np.zeros(len(rows), "S1")
        windows = np.lib.stride_tricks.sliding_window_view(self.content, length)
        return np.ascontiguousarray(windows[self.offsets[rows]]).view(f"S{length}").ravel()
