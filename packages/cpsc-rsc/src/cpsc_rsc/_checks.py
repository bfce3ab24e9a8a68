"""Checks of tensors, indices, quantiles and mappings from modality to value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from conformal_core.checks import check_floating, check_shape, is_checked


def check_tensor(name: str, value: Tensor, shape: Sequence[int | str]) -> None:
    """Refuse anything but a floating tensor of a shape; a string in it stands for any length."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    check_floating(name, value)
    check_shape(name, value, shape)


def check_feature(name: str, value: Tensor, dim: int | str = "d") -> None:
    """Refuse anything but a floating tensor (B, dim)."""
    check_tensor(name, value, ("B", dim))


def check_selected(selected: Tensor, batch: int, components: int, *, check: bool | None) -> None:
    """Refuse anything but integers (B, K) and, where values are checked, those outside [0, components)."""
    if not isinstance(selected, Tensor):
        raise TypeError(f"selected must be a tensor, got {type(selected).__name__}")
    if selected.is_floating_point() or selected.is_complex() or selected.dtype == torch.bool:
        raise TypeError(f"selected must be of an integer dtype, got {selected.dtype}")
    if selected.ndim != 2 or selected.shape[0] != batch or selected.shape[1] == 0:
        raise ValueError(f"selected must have shape ({batch}, K) with K >= 1, got {tuple(selected.shape)}")
    if is_checked(selected, check) and bool(((selected < 0) | (selected >= components)).any()):
        raise ValueError(f"selected must lie in [0, {components}), the components, got others")


def check_mask(name: str, value: Tensor, rows: int) -> None:
    """Refuse anything but a tensor (rows,) of booleans."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        raise TypeError(f"{name} must be a tensor of booleans, got {getattr(value, 'dtype', type(value).__name__)}")
    check_shape(name, value, (rows,))


def check_qhat(qhat: Tensor) -> None:
    """Refuse anything but a 0-d floating tensor; the most common mistake is a q̂ that is not set yet."""
    if not isinstance(qhat, Tensor):
        hint = ": calibrate once before the first step that uses it" if qhat is None else ""
        raise TypeError(f"qhat must be a 0-d tensor, got {type(qhat).__name__}{hint}")
    if qhat.ndim != 0 or not qhat.is_floating_point():
        raise ValueError(f"qhat must be a 0-d floating tensor, got shape {tuple(qhat.shape)} of {qhat.dtype}")


def check_modalities(name: str, mapping: object, modalities: Iterable[str], *, allow_more: bool = False) -> None:
    """Refuse a mapping that lacks a modality or, unless `allow_more`, has an unknown one."""
    keys = _keys(name, mapping)
    if missing := sorted(set(modalities) - keys):
        raise ValueError(f"{name} must hold every modality, got {sorted(keys)} without {missing}")
    if not allow_more and (unknown := sorted(keys - set(modalities))):
        raise ValueError(f"{name} must hold the modalities {sorted(modalities)} only, got {unknown} too")


def check_present(name: str, mapping: object, modalities: Iterable[str]) -> None:
    """Refuse a mapping that has no modality, or an unknown one; some may be missing."""
    keys = _keys(name, mapping)
    if not keys or not keys <= set(modalities):
        raise ValueError(
            f"{name} must hold at least one of the modalities {sorted(modalities)} and no other, got {sorted(keys)}"
        )


def _keys(name: str, mapping: object) -> set[str]:
    if not isinstance(mapping, (Mapping, nn.ModuleDict)):
        raise TypeError(f"{name} must map each modality to its own, got {type(mapping).__name__}")
    return set(mapping)
