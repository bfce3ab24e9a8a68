"""Reads from a store that can be slow, fail, or return wrong bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from cpsc_train.errors import UserError, out_of_memory, reason

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0)
"""Seconds between a failed read and the next attempt."""
PATIENCE = 30.0
"""Seconds within which an answer must be complete, plus its size over `SLOWEST`."""
SLOWEST = 100_000
"""Bytes per second expected of the slowest store."""
FINAL = (FileNotFoundError, PermissionError, NotImplementedError, UserError)
"""Errors that another attempt does not change."""


class StoreReader:
    """Reader of one store, for one process.

    A read is attempted up to four times, with pauses of 1, 2 and 4 seconds; from a local disk once. After a read that
    failed every time, the next reads are attempted once until one succeeds, so a store that is down costs its pauses
    once. Raises UserError if the kind of store is unknown.

    `root`: a folder, or an address such as ``s3://bucket/folder``.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._system, self._base = open_store(root)
        self._pauses: tuple[float, ...] = () if isinstance(self._system, LocalFileSystem) else PAUSES
        self._failing = False

    def read(self, name: str, accept: Callable[[bytes], T], start: int | None = None, size: int | None = None) -> T:
        """Return ``accept(content)`` of `size` bytes of the file `name` from `start` on, or of all of it.

        `accept` raises OSError or ValueError for wrong content, which is then read again. Raises FileNotFoundError
        or PermissionError if the store answers so, and OSError, which names the file and the last error, if no attempt
        succeeded in time.
        """
        last: Exception = OSError()
        attempts = 1 if self._failing else 1 + len(self._pauses)
        for attempt in range(attempts):
            if attempt:
                time.sleep(self._pauses[attempt - 1])
            try:
                accepted = accept(self._content(name, start, size))
            except FINAL:
                raise
            except Exception as error:  # every store's client has its own errors
                if out_of_memory(error):
                    raise
                last = error
            else:
                self._failing = False
                return accepted
        self._failing = True
        what = "no complete answer in time" if isinstance(last, TimeoutError) else reason(last)
        raise OSError(f"{self._root}/{name}: {what}{f', tried {attempts} times' * (attempts > 1)}") from last

    def _content(self, name: str, start: int | None, size: int | None) -> bytes:
        path, end = f"{self._base}/{name}", None if start is None or size is None else start + size
        if not isinstance(self._system, AsyncFileSystem):
            return bytes(self._system.cat_file(path, start=start, end=end))
        timeout = PATIENCE + (size or 0) / SLOWEST
        return bytes(sync(self._system.loop, self._system._cat_file, path, start=start, end=end, timeout=timeout))


def open_store(root: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it; raise UserError if the kind of store is unknown."""
    try:
        system, base = url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root}: cannot be opened ({reason(error)})") from None
    return system, str(base).rstrip("/")
