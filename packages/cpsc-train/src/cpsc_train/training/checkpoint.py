"""Checkpoints: written atomically, and read without executing code."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.interrupts import deferred
from cpsc_train.writing import make_folder, replacing

FORMAT = 1
"""Format of the files; no other is read."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, or raise UserError and leave the file as it was; signals are handled afterwards."""
    try:
        with deferred(), replacing(path) as file:  # torch aborts the process if a handler raises while it writes
            torch.save({"format": FORMAT} | state, file)
    except RuntimeError as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error  # torch replaces an OSError
        raise UserError(f"{path}: cannot be written ({reason(cause)})") from None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint of tensors, numbers and strings to `device`; no code in it is executed.

    Raises UserError if the file is missing, truncated, of another format, or contains anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an unusual pickle protocol
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # of any kind, in a damaged file
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


def load_best(path: Path, device: torch.device) -> dict[str, Any]:
    """Read the parameters of the best epoch of a run, and the quantiles of its heads.

    Raises UserError as `load`, and if an entry is missing or of the wrong type. It need not fit any model.
    """
    state = load(path, device)
    qhat = state.get("qhat", 0)
    complete = type(state.get("epoch")) is int and _is_table(state.get("model")) and _is_table(state.get("method"))
    if not complete or not (qhat is None or (_is_table(qhat) and all(_is_quantile(q) for q in qhat.values()))):
        raise UserError(f"{path}: must hold epoch, model, method and qhat, as a run saves them")
    return state


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())


def _is_quantile(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 0 and tensor.is_floating_point() and not tensor.isnan().item()


@contextmanager
def fitting() -> Iterator[None]:
    """Raise UserError in place of an error of loading a state: the checkpoint does not fit the configuration."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[-1].strip()
        raise UserError(f"the checkpoint does not fit the configuration: {cause}") from None


class Checkpoints:
    """The `keep` newest checkpoints of a run, ``step-00000123.pt``, from which it can be resumed."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step, then remove all but the newest.

        Raises UserError if it cannot be written; the others are then left as they were.
        """
        try:
            make_folder(self._folder, below=self._folder.parent)
            for partial in self._folder.glob("*.partial"):  # left by a process that was killed
                partial.unlink()
            save(self._folder / f"step-{step:08d}.pt", state)
            for old in self._files()[: -self._keep]:
                old.unlink()
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({reason(error)})") from None

    def newest(self, device: torch.device) -> dict[str, Any] | None:
        """Read the newest checkpoint; return None if there is none.

        Raises UserError if it cannot be read, and names the one before it.
        """
        files = self._files()
        if not files:
            return None
        try:
            return load(files[-1], device)
        except UserError as error:
            hint = f": remove it to continue from {files[-2].name}" if len(files) > 1 else ""
            raise UserError(f"{error}{hint}") from None

    def _files(self) -> list[Path]:
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(file for file in files if re.fullmatch(r"step-\d{8,}\.pt", file.name))


def random_states() -> dict[str, Any]:
    """Return the states of all random generators of this process, as tensors and numbers."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # modules of users may draw from it
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(state: dict[str, Any]) -> None:
    """Set the states that `random_states` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
