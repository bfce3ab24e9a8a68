"""Refusal of states that a newer release has saved."""

from __future__ import annotations

from typing import Any

from torch import nn


def refuse_newer(
    module: nn.Module, _state: Any, prefix: str, metadata: dict[str, Any], _strict: bool, *messages: list[str]
) -> None:
    """Pre-hook of ``load_state_dict``; torch saves the ``_version`` of every module with its tensors."""
    version = metadata.get("version", 1)
    if version > module._version:
        messages[-1].append(
            f"state of {prefix}{type(module).__name__} must have version {module._version} or less, got {version}: a "
            "newer release of cpsc-rsc saved it: install that one"
        )
