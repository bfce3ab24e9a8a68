"""The one place where this package refuses input: kind, shape, then value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T", bound=str)


def check_count(name: str, value: int) -> int:
    """Return `value` if it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def check_share(name: str, value: float) -> float:
    """Return `value` if it lies in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value}")
    return value


def check_weight(name: str, value: float) -> float:
    """Return `value` if it is finite and not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return value


def check_choice(name: str, value: T, choices: Any) -> T:
    """Return `value` if it is one of the strings of the Literal `choices`."""
    allowed = choices.__args__  # `get_args` says the same, and older compilers of torch stop there
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}")


def check_feature(name: str, value: Tensor, dim: int | None = None) -> None:
    """Refuse anything but a floating tensor (B, d)."""
    _check_floating(name, value)
    if value.ndim != 2 or dim not in {None, value.shape[1]}:
        raise ValueError(f"{name} must have shape (B, {dim or 'd'}), got {tuple(value.shape)}")


def check_components(name: str, value: Tensor, h: Tensor | None = None) -> None:
    """Refuse anything but a floating tensor (B, n, d) that, where h is given, matches its shape (B, d)."""
    _check_floating(name, value)
    batch, dim = ("B", "d") if h is None else h.shape
    if value.ndim != 3 or (h is not None and (value.shape[0], value.shape[2]) != (batch, dim)):
        raise ValueError(f"{name} must have shape ({batch}, n, {dim}), got {tuple(value.shape)}")


def check_per_component(name: str, value: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a floating tensor (B, n), of the shape that is given."""
    _check_floating(name, value)
    if value.ndim != 2 or (shape is not None and tuple(value.shape) != shape):
        raise ValueError(f"{name} must have shape {shape or '(B, n)'}, got {tuple(value.shape)}")


def check_selected(selected: Tensor, batch: int, components: int, *, check: bool | None) -> None:
    """Refuse anything but integers (B, K) and, where values are looked at, those that are no component."""
    if not isinstance(selected, Tensor):
        raise TypeError(f"selected must be a tensor, got {type(selected).__name__}")
    if selected.is_floating_point() or selected.is_complex() or selected.dtype == torch.bool:
        raise TypeError(f"selected must be of an integer dtype, got {selected.dtype}")
    if selected.ndim != 2 or selected.shape[0] != batch or selected.shape[1] == 0:
        raise ValueError(f"selected must have shape ({batch}, K) with K >= 1, got {tuple(selected.shape)}")
    if wants_value_checks(selected, check) and bool(((selected < 0) | (selected >= components)).any()):
        raise ValueError(f"selected must lie in [0, {components}), the components, got others")


def _check_floating(name: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be of a floating dtype, got {value.dtype}")


def check_qhat(qhat: Tensor) -> None:
    """Refuse anything but a 0-d floating tensor: the commonest mistake is a q̂ not set yet."""
    if not isinstance(qhat, Tensor):
        hint = ": calibrate once before the first step that uses it" if qhat is None else ""
        raise TypeError(f"qhat must be a 0-d tensor, got {type(qhat).__name__}{hint}")
    if qhat.ndim != 0 or not qhat.is_floating_point():
        raise ValueError(f"qhat must be a 0-d floating tensor, got shape {tuple(qhat.shape)} of {qhat.dtype}")


def check_labels(labels: Tensor, batch: int) -> Tensor:
    """Return labels (B,) as int64; refuse anything but an integer tensor."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be of an integer dtype, got {labels.dtype}")
    if labels.shape != (batch,):
        raise ValueError(f"labels must have shape ({batch},), got {tuple(labels.shape)}")
    return labels.long()


def check_logits(name: str, logits: Tensor, rows: int) -> None:
    """Refuse a classifier whose output is not one row of class scores for each row it was given."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must return a tensor, got {type(logits).__name__}")
    if logits.ndim != 2 or logits.shape[0] != rows or logits.shape[1] == 0:
        raise ValueError(f"{name} must return logits of shape ({rows}, C), got {tuple(logits.shape)}")


def check_targets(targets: Tensor, batch: int) -> None:
    """Refuse anything but a floating tensor (B,), which is what a score of regression judges."""
    _check_floating("labels", targets)
    if targets.shape != (batch,):
        raise ValueError(f"labels must have shape ({batch},), got {tuple(targets.shape)}")


def check_predictions(name: str, predictions: Tensor, rows: int, columns: int) -> Tensor:
    """Return predictions (rows,) or (rows, columns) of a regression; one column may stand in an axis of its own."""
    if not isinstance(predictions, Tensor):
        raise TypeError(f"{name} must return a tensor, got {type(predictions).__name__}")
    if columns == 1 and predictions.shape == (rows, 1):
        predictions = predictions.squeeze(-1)
    wanted = (rows,) if columns == 1 else (rows, columns)
    if tuple(predictions.shape) != wanted:
        also = f" or ({rows}, 1)" if columns == 1 else ""
        raise ValueError(f"{name} must return predictions of shape {wanted}{also}, got {tuple(predictions.shape)}")
    return predictions


def check_values_of_targets(predictions: Tensor, targets: Tensor, qhat: Tensor) -> None:
    """Refuse predictions (B, n, ...) and targets (B,) that are not finite, and q̂ = NaN. See `wants_value_checks`."""
    for name, values in (("labels", targets), ("predictions of the head", predictions)):
        bad = (~values.isfinite()).nonzero()
        if bad.numel():
            place = tuple(bad[0].tolist())
            raise ValueError(f"{name} must be finite, got {values[place].item()} in row {place[0]}")
    if qhat.isnan():
        raise ValueError("qhat must not be NaN, got nan")


def wants_value_checks(value: Tensor, check: bool | None) -> bool:
    """Say whether values may be looked at: on the host by default, on a device only when asked (it would wait)."""
    if check is None:
        return value.device.type == "cpu" and not torch.compiler.is_compiling()
    return check


def check_values(scores: Tensor, labels: Tensor, qhat: Tensor) -> None:
    """Refuse labels outside [0, C), scores (B, n, C) that are not finite, q̂ = NaN. See `wants_value_checks`."""
    classes = scores.shape[-1]
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"labels must lie in [0, {classes}), the classes of the head, got {int(labels[row])} in row {row}"
        )
    bad = (~scores.isfinite()).nonzero()
    if bad.numel():
        row, component, label = bad[0].tolist()
        got = scores[row, component, label].item()
        raise ValueError(
            f"scores of the head must be finite, got {got} in row {row}, component {component}, class {label}"
        )
    if qhat.isnan():
        raise ValueError("qhat must not be NaN, got nan")


def check_modalities(name: str, got: object, expected: Iterable[str], *, more: bool = False) -> None:
    """Refuse a mapping that lacks a modality or, unless `more` is allowed, brings an unknown one."""
    if not isinstance(got, (Mapping, nn.ModuleDict)):
        raise TypeError(f"{name} must map each modality to its own, got {type(got).__name__}")
    if missing := sorted(set(expected) - set(got)):
        raise ValueError(f"{name} must hold every modality, got {sorted(got)} without {missing}")
    if not more and (unknown := sorted(set(got) - set(expected))):
        raise ValueError(f"{name} must hold the modalities {sorted(expected)} only, got {unknown} too")


def check_present(name: str, got: object, known: Iterable[str]) -> None:
    """Refuse a mapping that holds no modality, or brings an unknown one; some may be missing."""
    if not isinstance(got, (Mapping, nn.ModuleDict)):
        raise TypeError(f"{name} must map each modality to its own, got {type(got).__name__}")
    if not got or not set(got) <= set(known):
        raise ValueError(
            f"{name} must hold at least one of the modalities {sorted(known)} and no other, got {sorted(got)}"
        )
