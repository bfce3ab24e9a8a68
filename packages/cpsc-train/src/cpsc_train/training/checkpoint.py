"""Files of states: written atomically, and read without executing code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cpsc_train.errors import UserError, out_of_memory, reason
from cpsc_train.interrupts import deferred
from cpsc_train.writing import replacing

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
        if "weights_only" in str(error):  # torch advises to execute the code
            raise UserError(f"{path}: is not a readable checkpoint of tensors, numbers and strings") from None
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
