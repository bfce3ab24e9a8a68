"""A checkpoint that is written whole or not at all, and that cannot run code when it is read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from cpsc_train.errors import UserError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path`, then move it into place in one step."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read tensors, numbers and names only; nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, cut off, or holds anything else.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: is not a readable checkpoint ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: must hold a table of states, got {type(state).__name__}")
    return state
