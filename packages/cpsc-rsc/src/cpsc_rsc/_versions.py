"""States that a newer release has saved are refused by name."""

from __future__ import annotations

from typing import Any

from torch import nn


def refuse_newer(
    module: nn.Module, _state: Any, prefix: str, metadata: dict[str, Any], _strict: bool, *found: list[str]
) -> None:
    """Before a module loads a state: torch writes the version of every module, ``_version``, beside its tensors."""
    version = metadata.get("version", 1)
    if version > module._version:
        found[-1].append(
            f"state of {prefix}{type(module).__name__} must have version {module._version} or less, got {version}: a "
            "newer release of cpsc-rsc saved it: install that one"
        )
