"""States: nested dictionaries, lists and tuples of tensors, numbers and strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def mapped(state: Any, change: Callable[[str, Tensor], Tensor], path: str = "") -> Any:
    """Return a copy of a state in which each tensor is replaced by ``change(path, tensor)``.

    Examples
    --------
    >>> mapped({"a": [torch.tensor(1), 2]}, lambda path, tensor: path)
    {'a': ['a/0', 2]}
    """
    if isinstance(state, Tensor):
        return change(path, state)
    prefix = f"{path}/" if path else ""
    if isinstance(state, dict):
        return {key: mapped(value, change, f"{prefix}{key}") for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(mapped(value, change, f"{prefix}{place}") for place, value in enumerate(state))
    return state


def moved(state: Any, device: torch.device) -> Any:
    """Return a copy of a state whose tensors are on a device."""
    return mapped(state, lambda _, tensor: tensor.to(device))
