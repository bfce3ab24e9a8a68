"""A checkpoint that is written whole or not at all, and that cannot run code when it is read."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from cpsc_train.errors import UserError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path`, then move it into place in one step.

    Raises
    ------
    UserError
        If the disk does not take it; the former checkpoint is untouched then.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read tensors, numbers and names only; nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, cut off, or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol: it is refused or read, nothing between
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise UserError(f"{path}: is not a readable checkpoint ({_reason(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: must hold a table of states, got {type(state).__name__}")
    return state


def _reason(error: Exception) -> str:
    """Return one line that is never empty."""
    return getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
