"""Checkpoints of a run, from which any number of processes can resume it; written while training continues."""

from __future__ import annotations

import re
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.interrupts import deferred
from cpsc_train.training import checkpoint
from cpsc_train.training.distributed import Process
from cpsc_train.training.nested import mapped
from cpsc_train.training.tensor_files import Index, Writer, check_index, read_tensors
from cpsc_train.writing import make_folder, refuse_link, saying

CPU = torch.device("cpu")
STATE = "state.pt"
"""File of everything but the values of tensors: numbers, strings, shapes, and the index of the parts of tensors."""


class Checkpoints:
    """The `keep` newest checkpoints of a run: folders ``step-00000123``.

    Tensors in shards (DTensor) are written by all processes, each its own part; everything else, such as what is the
    same on all processes, is written by the first one. A process keeps one copy of what it writes in host memory.

    - `folder`: contains the checkpoints; created with the first.
    - `keep`: number of checkpoints kept.
    - `process`: this process; all processes must see the same folder.
    """

    def __init__(self, folder: Path, keep: int, process: Process) -> None:
        self._folder, self._keep, self._process = folder, keep, process
        self._copies: dict[str, Tensor] = {}  # reused, since fresh memory takes longer than the copying
        self._group: Any = None
        self._saving: _Saving | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy the state of a step to host memory and start to write it; every process must call this.

        Waits for the previous save. Once all processes have written, the folder gets its name, and the oldest
        checkpoints are removed. Raises UserError if the previous save failed.
        """
        self.wait()
        tensors: dict[str, Tensor] = {}
        state = mapped(state, partial(self._copy, tensors))
        self._copies = tensors
        folder = self._folder / f"step-{step:08d}"
        unfinished = folder.with_name(f"{folder.name}.partial")
        writer = Writer(
            unfinished,
            self._process.rank,
            prepare=partial(self._prepare, unfinished),
            commit=partial(self._commit, unfinished, folder, state),
        )
        if self._process.world == 1:  # DCP warns about what is intended
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        elif self._group is None:
            self._group = self._process.host_group()
        with deferred():
            self._saving = _Saving(partial(self._write, tensors, writer, unfinished), writer)

    def wait(self) -> None:
        """Wait until the last checkpoint is written; raise UserError if it cannot be written."""
        if self._saving is not None:
            self._saving.join()
            error, self._saving = self._saving.error, None
            if error is not None:
                raise error

    def abandon(self, after: float) -> None:
        """Stop the last save unless it ends within `after` seconds; its errors are ignored, as the run has failed."""
        if self._saving is not None:
            self._saving.join(after)
            self._saving.writer.stopped.set()
            self._saving.join(after)

    def newest(self, sharded: Mapping[str, DTensor] | None = None) -> dict[str, Any] | None:
        """Read the newest checkpoint to host memory; return None if there is none.

        Raises UserError if it cannot be read, and names the one before it.

        - `sharded`: tensors in shards as this process has them; the part of it is read. The key is the path of the
          tensor, or of the dictionary that contains it, such as ``optimizer/state/0``.
        """
        folders = self._folders()
        if not folders:
            return None
        try:
            return _read(folders[-1], sharded or {})
        except UserError as error:
            before = folders[-2].name if len(folders) > 1 else "the start"
            raise UserError(f"{error}: remove it to continue from {before}") from None

    def remove_unfinished(self) -> None:
        """Remove what killed processes left incomplete; raise UserError if it cannot be removed, or through a link."""
        refuse_link(self._folder)
        with saying(self._folder):
            for unfinished in self._folder.glob("*.partial"):
                _remove(unfinished)

    def _copy(self, tensors: dict[str, Tensor], path: str, tensor: Tensor) -> Tensor:
        """Add a copy of what this process writes to `tensors`; return a tensor that has only the shape and type."""
        if self._process.first or isinstance(tensor, DTensor):
            copy = self._copies.get(path)
            if copy is not None and (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype):
                tensors[path] = copy.copy_(tensor.detach())
            else:
                tensors[path] = tensor.detach().to(CPU, copy=True)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    def _write(self, tensors: dict[str, Tensor], writer: Writer, unfinished: Path) -> None:
        try:
            save(tensors, storage_writer=writer, process_group=self._group)
        except BaseException:
            if self._process.first:  # now none of the others is writing
                with suppress(OSError):
                    _remove(unfinished)
            raise

    def _prepare(self, unfinished: Path) -> None:
        make_folder(self._folder, below=self._folder.parent)
        self.remove_unfinished()
        make_folder(unfinished)

    def _commit(self, unfinished: Path, folder: Path, state: dict[str, Any], index: Index) -> None:
        checkpoint.save(unfinished / STATE, {"state": state, "index": index})
        with saying(self._folder):
            if folder.exists():  # of a run that was resumed from an older one
                _remove(folder)
            unfinished.rename(folder)
            for old in self._folders()[: -self._keep]:
                _remove(old)

    def _folders(self) -> list[Path]:
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        found = (folder for folder in folders if re.fullmatch(r"step-\d{8,}", folder.name, re.ASCII))
        return sorted(found, key=lambda folder: (len(folder.name), folder.name))


class _Saving(threading.Thread):
    """A save in a thread that ends with the process, unlike those of `async_save`, which the interpreter waits for."""

    def __init__(self, call: Callable[[], Any], writer: Writer) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self.error: BaseException | None = None
        self.writer = writer
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except CheckpointException as error:
            self.error = error.failures[min(error.failures)][0]
        except BaseException as error:  # raised in the main thread
            self.error = error


def _read(folder: Path, sharded: Mapping[str, DTensor]) -> dict[str, Any]:
    saved = checkpoint.load(folder / STATE, CPU)
    shapes: dict[str, Tensor] = {}
    try:
        mapped(saved["state"], shapes.setdefault)
        check_index(folder, saved["index"], shapes)
        tensors = {key: _empty(key, tensor, sharded) for key, tensor in shapes.items()}
        read_tensors(folder, saved["index"], tensors)
        state: dict[str, Any] = mapped(saved["state"], lambda key, _: tensors[key])
    except Exception as error:  # of any kind, in a damaged file
        if out_of_memory(error):
            raise
        raise UserError(f"{folder}: is not a readable checkpoint ({reason(error)})") from None
    return state


def _empty(key: str, shape: Tensor, sharded: Mapping[str, DTensor]) -> Tensor:
    example = sharded.get(key, sharded.get(key.rpartition("/")[0]))
    if example is not None and example.shape == shape.shape:
        return torch.zeros_like(example, dtype=shape.dtype, requires_grad=False)
    return torch.zeros(shape.shape, dtype=shape.dtype)


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder, which first loses the name by which it counts."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path if path.suffix == ".partial" else path.rename(path.with_name(f"{path.name}.old.partial")))
