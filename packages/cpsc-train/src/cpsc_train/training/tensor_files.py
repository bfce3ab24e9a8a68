"""Files of the tensors of a checkpoint: raw bytes, one file for each process that writes.

`torch.distributed.checkpoint` (DCP) plans which process writes which part of a tensor, and where a process finds the
parts that it needs. DCP's own files are not used, because their index is a pickle, which can execute code.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from threading import Event
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlanner, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from cpsc_train.reading import check_file
from cpsc_train.writing import replacing

PIECE = 2**25
"""Bytes written at once; a save can be stopped between two pieces."""


class Part(NamedTuple):
    """Part of a tensor in a file."""

    offset: tuple[int, ...]
    """Index of its first element in the tensor."""
    size: tuple[int, ...]
    rank: int
    """Process that wrote the file."""
    start: int
    """Position in the file, in bytes."""
    length: int
    """Length in bytes."""
    crc: int
    """CRC-32 of the bytes."""


Index = dict[str, list[tuple[Any, ...]]]
"""The parts of every tensor, as plain tuples."""


class StoppedError(Exception):
    """A save was stopped before it was complete."""


class Writer(StorageWriter):
    """Writer of one checkpoint, with which DCP saves tensors.

    - `folder`: where the files are created.
    - `rank`: number of this process.
    - `prepare`: called on the first process before any file is written; creates the folder.
    - `commit`: called on the first process with the index once all processes have written.
    """

    def __init__(
        self, folder: Path, rank: int, *, prepare: Callable[[], None], commit: Callable[[Index], None]
    ) -> None:
        super().__init__()
        self.stopped = Event()
        """When set, `write_data` raises `StoppedError` at the next piece."""
        self._folder, self._rank, self._prepare, self._commit = folder, rank, prepare, commit

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """Return False: the folder is an argument of the constructor."""
        return False

    def reset(self, checkpoint_id: object = None) -> None:
        """Do nothing: a writer is used once."""

    def set_up_storage_writer(self, is_coordinator: bool) -> None:
        """Do nothing: the first process prepares in `prepare_global_plan`."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Create the folder; return the plans as they are."""
        self._prepare()
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write the parts that the plan assigns to this process.

        Raises UserError if they cannot be written, and StoppedError if the save was stopped.
        """
        results: list[WriteResult] = []
        if plan.items:
            with replacing(_file(self._folder, self._rank)) as file:
                results = [self._write(file, item, planner) for item in plan.items]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Pass the index of all parts to `commit`."""
        index: Index = {}
        for result in (result for of_process in results for result in of_process):
            index.setdefault(result.index.fqn, []).append(tuple(result.storage_data))
        self._commit(index)

    def _write(self, file: IO[bytes], item: Any, planner: SavePlanner) -> WriteResult:
        tensor: Any = planner.resolve_data(item)
        content = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data
        start, crc = file.tell(), 0
        for place in range(0, len(content), PIECE):
            if self.stopped.is_set():
                raise StoppedError
            piece = content[place : place + PIECE]
            file.write(piece)
            crc = zlib.crc32(piece, crc)
        chunk = item.tensor_data.chunk
        part = Part(tuple(chunk.offsets), tuple(chunk.sizes), self._rank, start, len(content), crc)
        return WriteResult(item.index, len(content), part)


def read_tensors(folder: Path, index: Index, tensors: dict[str, Tensor]) -> None:
    """Read tensors in place; of a DTensor, only the part that this process has is read.

    Raises ValueError if the index does not describe them or a file is damaged, and OSError or DataError if a file
    cannot be read.
    """
    parts = {name: [Part(*entry) for entry in index[name]] for name in tensors}
    planner = DefaultLoadPlanner()
    planner.set_up_planner(tensors, Metadata({name: _entry(tensors[name], parts[name]) for name in tensors}), True)
    by_place = {(name, part.offset): part for name in tensors for part in parts[name] if part.length}
    with ExitStack() as stack:
        files: dict[int, IO[bytes]] = {}
        for item in planner.create_local_plan().items:
            part = by_place[item.storage_index.fqn, tuple(item.storage_index.offset or ())]
            if part.rank not in files:
                files[part.rank] = stack.enter_context(_file(folder, part.rank).open("rb"))
            _read_part(files[part.rank], part, item, planner)


def check_index(folder: Path, index: Index, shapes: Mapping[str, Tensor]) -> None:
    """Check that the index describes tensors of these shapes and types, and that the files have their bytes.

    Afterwards, memory for the tensors can be allocated safely. Raises ValueError if a check fails, OSError if a file is
    missing, and DataError if it is not a regular file.
    """
    lengths: dict[int, int] = {}
    for name, tensor in shapes.items():
        parts = [Part(*entry) for entry in index[name]]
        fitting = all(part.length == prod(part.size) * tensor.itemsize >= 0 for part in parts)
        if not fitting or sum(part.length for part in parts) != tensor.numel() * tensor.itemsize:
            raise ValueError(f"the index does not describe the shape of {name}")
        for part in parts:
            lengths[part.rank] = lengths.get(part.rank, 0) + part.length
    for rank, length in lengths.items():
        path = _file(folder, rank)
        check_file(path, largest=None)
        if path.stat().st_size != length:
            raise ValueError(f"{path.name} must have {length:,} bytes, got {path.stat().st_size:,}")


def _read_part(file: IO[bytes], part: Part, item: ReadItem, planner: LoadPlanner) -> None:
    file.seek(part.start)
    content = bytearray(part.length)
    if file.readinto(content) != part.length or zlib.crc32(content) != part.crc:  # type: ignore[attr-defined]
        raise ValueError(f"the bytes of {item.storage_index.fqn} are not those that were written")
    target = planner.resolve_tensor(item)
    tensor = torch.frombuffer(content, dtype=target.dtype).reshape(part.size)
    for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
        tensor = tensor.narrow(dim, start, length)
    target.copy_(tensor)
    planner.commit_tensor(item, target)


def _entry(tensor: Tensor, parts: Sequence[Part]) -> TensorStorageMetadata:
    chunks = [ChunkStorageMetadata(torch.Size(part.offset), torch.Size(part.size)) for part in parts if part.length]
    return TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), tensor.shape, chunks)


def _file(folder: Path, rank: int) -> Path:
    return folder / f"{int(rank)}.bin"
