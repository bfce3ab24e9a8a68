"""A checkpoint that is written whole or not at all, and that cannot run code when it is read."""

from __future__ import annotations

import random
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.writing import make_folder, replacing

FORMAT = 2
"""Of what is written, and all that is read; other numbers belong to other versions of this package."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path`, then move it into place in one step; an interrupt waits until that is done.

    Raises
    ------
    UserError
        If the disk does not take it; the former checkpoint is untouched then.
    """
    try:
        with _interrupts_wait(), replacing(path) as file:
            torch.save({"format": FORMAT} | state, file)
    except RuntimeError as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error  # torch hides it in its own
        raise UserError(f"{path}: cannot be written ({reason(cause)})") from None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read tensors, numbers and names only; nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, cut off, of another format, or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol: it is refused or read, nothing between
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # a damaged file can make the reader fail in any way
        if out_of_memory(error):
            raise
        raise UserError(f"{path}: is not a readable checkpoint ({reason(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: must hold a table of states, got {type(state).__name__}")
    if state.get("format") != FORMAT:
        raise UserError(
            f"{path}: must have format {FORMAT}, got {state.get('format')}: it was written by another version of "
            "cpsc-train, which environment.json names: install that one"
        )
    return state


def load_kept(path: Path, device: torch.device) -> dict[str, Any]:
    """Read the kept parameters of a run, with the quantiles of its heads; what they are of is not looked at.

    Raises
    ------
    UserError
        As `load`, and if it holds anything else.
    """
    state = load(path, device)
    qhat = state.get("qhat", 0)
    right = all(_are_tensors(state.get(part)) for part in ("model", "method"))
    right = right and type(state.get("epoch")) is int
    if not right or not (qhat is None or (_are_tensors(qhat) and all(_is_number(q) for q in qhat.values()))):
        raise UserError(f"{path}: must hold epoch, model, method and qhat, as a run saves them")
    return state


def _are_tensors(held: object) -> bool:
    return isinstance(held, dict) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in held.items())


def _is_number(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 0 and tensor.is_floating_point() and not tensor.isnan().item()


class Checkpoints:
    """The newest few checkpoints that a run can go on from.

    Parameters
    ----------
    folder
        Where they lie, as ``step-00000123.pt``.
    keep
        How many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one, then remove the oldest.

        Raises
        ------
        UserError
            If the disk does not take it; the others are untouched then.
        """
        try:
            make_folder(self._folder, below=self._folder.parent)
            for abandoned in self._folder.glob("*.partial"):  # by a process that was killed
                abandoned.unlink()
            save(self._folder / f"step-{step:08d}.pt", state)
            for old in self._found()[: -self._keep]:
                old.unlink()
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({reason(error)})") from None

    def newest(self, device: torch.device) -> dict[str, Any] | None:
        """Read the newest, or return ``None`` where there is none.

        Raises
        ------
        UserError
            If it cannot be read; names the one before it.
        """
        found = self._found()
        if not found:
            return None
        try:
            return load(found[-1], device)
        except UserError as error:
            hint = f": remove it to go on from {found[-2].name}" if len(found) > 1 else ""
            raise UserError(f"{error}{hint}") from None

    def _found(self) -> list[Path]:
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(file for file in files if re.fullmatch(r"step-\d{8,}\.pt", file.name))


def random_states() -> dict[str, Any]:
    """Return the state of every source of randomness of this process, as tensors and numbers."""
    kind, keys, position, has_normal, normal = np.random.get_state()  # noqa: NPY002  # a user's module may draw from it
    return {
        "python": random.getstate(),
        "numpy": [
            kind,
            torch.from_numpy(np.array(keys, dtype=np.int64)),
            int(position),
            int(has_normal),
            float(normal),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(state: dict[str, Any]) -> None:
    """Set what `random_states` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold the handlers of SIGINT and SIGTERM back: torch's writer aborts the process where one raises inside it."""
    came: dict[int, None] = {}
    former = {}
    if threading.current_thread() is threading.main_thread():  # the only one that handles a signal, or may set how
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                former[number] = signal.signal(number, lambda number, _frame: came.setdefault(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
