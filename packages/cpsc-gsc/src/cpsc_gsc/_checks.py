"""The one place where input of this package is refused: kinds and shapes always, values where no sync is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def values_are_checked(tensor: Tensor, check: bool | None) -> bool:
    """Return whether the values of `tensor` may be read: ``None`` means on the CPU, and not while tracing."""
    if check is None:
        return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
    return check


def logits_by_modality(unimodal_logits: Mapping[str, Tensor]) -> tuple[int, int]:
    """Refuse anything but {modality: (B, C)} floating tensors of one shape; return that shape."""
    if not isinstance(unimodal_logits, Mapping):
        raise TypeError(f"unimodal_logits must map each modality to a tensor, got {type(unimodal_logits).__name__}")
    if not unimodal_logits:
        raise ValueError("unimodal_logits must hold at least one modality, got none")
    shape: tuple[int, int] | None = None
    for modality, logits in unimodal_logits.items():
        name = f"unimodal_logits[{modality!r}]"
        _floating(name, logits)
        if logits.ndim != 2 or 0 in logits.shape:
            raise ValueError(f"{name} must have the shape (B, C) with B, C >= 1, got {tuple(logits.shape)}")
        shape = shape or (logits.shape[0], logits.shape[1])
        if tuple(logits.shape) != shape:
            first = next(iter(unimodal_logits))
            raise ValueError(
                f"{name} must have the shape {shape} of unimodal_logits[{first!r}]: the heads share their classes, "
                f"got {tuple(logits.shape)}"
            )
    assert shape is not None  # noqa: S101 - the mapping is not empty
    return shape


def fused(fused_logits: Tensor, shape: tuple[int, int], check: bool | None) -> None:
    """Refuse fused logits that are not a floating tensor of `shape`, and, where values are read, not finite ones."""
    _floating("fused_logits", fused_logits)
    if tuple(fused_logits.shape) != shape:
        raise ValueError(
            f"fused_logits must have the shape {shape} of the unimodal logits, got {tuple(fused_logits.shape)}"
        )
    if values_are_checked(fused_logits, check) and not bool(fused_logits.isfinite().all()):
        row, column = (~fused_logits.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"fused_logits must be finite, got {float(fused_logits[row, column])} at row {row}")


def predictions_by_modality(unimodal: Mapping[str, Tensor], columns: int) -> tuple[dict[str, Tensor], int]:
    """Return {modality: (B,) or (B, columns)} predictions of a regression, and B; refuse anything else."""
    if not isinstance(unimodal, Mapping):
        raise TypeError(f"unimodal_logits must map each modality to a tensor, got {type(unimodal).__name__}")
    if not unimodal:
        raise ValueError("unimodal_logits must hold at least one modality, got none")
    first = next(iter(unimodal.values()))
    rows = len(first) if isinstance(first, Tensor) and first.ndim else 0
    found = {m: predictions(f"unimodal_logits[{m!r}]", value, rows, columns) for m, value in unimodal.items()}
    return found, rows


def predictions(name: str, value: Tensor, rows: int, columns: int) -> Tensor:
    """Return predictions (rows,) or (rows, columns); one column may stand in an axis of its own."""
    _floating(name, value)
    if columns == 1 and value.shape == (rows, 1):
        value = value.squeeze(-1)
    wanted = (rows,) if columns == 1 else (rows, columns)
    if tuple(value.shape) != wanted or not rows:
        raise ValueError(
            f"{name} must hold predictions of the shape (B,{f' {columns})' if columns > 1 else ') or (B, 1)'} with "
            f"B = {max(rows, 1)} of all modalities, got {tuple(value.shape)}"
        )
    return value


def targets(labels: Tensor, rows: int, check: bool | None) -> None:
    """Refuse targets of a regression that are not (B,) and floating, or, where values are read, not finite."""
    _floating("labels", labels)
    if tuple(labels.shape) != (rows,):
        raise ValueError(f"labels must have the shape ({rows},) of the predictions, got {tuple(labels.shape)}")
    if values_are_checked(labels, check) and not bool(labels.isfinite().all()):
        row = int((~labels.isfinite()).nonzero()[0])
        raise ValueError(f"labels must be finite, got {float(labels[row])} at row {row}")


def quantiles(qhat: Mapping[str, Tensor], modalities: Mapping[str, Any]) -> None:
    """Refuse quantiles that are missing, or are not one 0-d tensor a modality."""
    if not isinstance(qhat, Mapping):
        raise TypeError(
            f"qhat must map each modality to a 0-d tensor (calibrate before the first weighted step), got {qhat!r}"
        )
    for modality in modalities:
        if modality not in qhat:
            raise ValueError(f"qhat must hold every modality, got {sorted(qhat)} without {modality!r}")
        value = qhat[modality]
        if not isinstance(value, Tensor):
            raise TypeError(
                f"qhat[{modality!r}] must be a 0-d tensor (calibrate before the first weighted step), got {value!r}"
            )
        if value.ndim != 0:
            raise ValueError(f"qhat[{modality!r}] must be 0-d, got shape {tuple(value.shape)}")


def class_labels(labels: Tensor, shape: tuple[int, int], check: bool | None) -> Tensor:
    """Return labels (B,) as int64; refuse those that are no integers, and, where values are read, outside [0, C)."""
    batch, classes = shape
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be of an integer dtype, got {labels.dtype}")
    if tuple(labels.shape) != (batch,):
        raise ValueError(f"labels must have the shape ({batch},) of the logits, got {tuple(labels.shape)}")
    labels = labels.long()  # first: the number of classes need not fit into a narrower integer
    if values_are_checked(labels, check):
        bad = (labels < 0) | (labels >= classes)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise ValueError(f"labels must lie in [0, {classes}), got {int(labels[row])} at row {row}")
    return labels


def one_modality(reliability: Tensor) -> None:
    """Refuse the reliabilities of several modalities where those of one are weighed."""
    if not isinstance(reliability, Tensor):
        raise TypeError(f"reliability must be the tensor of one modality, got {type(reliability).__name__}")


def coefficients(a: float, b: float) -> None:
    """Refuse a slope or an intercept that could turn a gradient round."""
    for name, value in (("a", a), ("b", b)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, got {value}")


def _floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating, got {tensor.dtype}")
