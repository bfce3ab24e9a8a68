"""Validation of saved states: kind, version and entries.

A state may come from an untrusted file. Objects read all entries with these functions before they change anything, so
an invalid state changes nothing.
"""

import math
import re
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, to_host
from conformal_core.checks import is_checked

Array = Any
State = dict[str, Any]
VERSION = 1

_PLAIN = (str, int, float, type(None))


def check_state(state: State, kind: str, keys: Collection[str], **settings: object) -> None:
    """Check the kind, version, keys and settings of a state; TypeError for anything but a dictionary."""
    if not isinstance(state, dict):
        raise TypeError(f"state must be a dict from state_dict(), got {type(state).__name__}")
    if not _same(state.get("kind"), kind):
        raise ValueError(f"state must be of kind {kind!r}, got {_shown(state.get('kind'))}")
    version = state.get("version")
    if not _same(version, VERSION):
        newer = isinstance(version, int) and version > VERSION
        hint = ": a newer release of conformal-core saved it: install that one" if newer else ""
        raise ValueError(f"state of {kind} must have version {VERSION}, got {_shown(version)}{hint}")
    if missing := sorted({*keys, *settings} - set(state)):
        raise ValueError(f"state of {kind} must hold {', '.join(missing)}, got only {', '.join(sorted(state))}")
    for name, value in settings.items():
        if not _same(state[name], value):
            raise ValueError(f"state of {kind} must have {name} = {value!r} as here, got {_shown(state[name])}")


def read_number(state: State, key: str, *, least: float = -math.inf) -> float:
    """Return a finite number of at least ``least``."""
    value = state[key]
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _refusal(state, key, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not least <= number < math.inf or number == -math.inf:
        raise _refusal(state, key, "a finite number" if least == -math.inf else f"a finite number of at least {least}")
    return number


def read_count(state: State, key: str) -> int:
    """Return an integer from 0 to 2⁶³ − 1."""
    value = state[key]
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 1 << 63:
        raise _refusal(state, key, "an integer of at least 0")
    return int(value)


def read_classes(state: State) -> int | None:
    """Return the number of classes of a calibrated predictor, or None; the entry is optional."""
    return None if state.get("classes") is None else read_count(state, "classes")


def read_fraction(state: State, key: str) -> Fraction:
    """Return a fraction written as text such as ``"1/10"``."""
    value = state[key]
    if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,2000}(/[1-9][0-9]{0,1999})?", value):
        raise _refusal(state, key, "a fraction such as '1/10'")
    return Fraction(value)


def read_floats(
    state: State, key: str, *, columns: int | None = None, length: int | None = None, least: float = -math.inf
) -> NDArray[np.float64]:
    """Return finite numbers, (n,) or (n, columns), each at least ``least``, as a copy on the host."""
    value = state[key]
    try:
        floats = np.array(to_host(value), dtype=np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise _refusal(state, key, "an array of numbers") from None
    if floats.ndim != (1 if columns is None else 2) or (columns is not None and floats.shape[1] != columns):
        raise _refusal(state, key, "an array of shape (n,)" if columns is None else f"an array (n, {columns})")
    if length is not None and len(floats) != length:
        raise _refusal(state, key, f"an array of length {length}")
    if not bool((np.isfinite(floats) & (floats >= least)).all()):
        raise _refusal(state, key, "finite numbers" if least == -math.inf else f"finite numbers of at least {least}")
    return floats


def read_thresholds(state: State, key: str, *, infinite: bool = True, length: int | None = None) -> Array | None:
    """Return a copy of an array (n,), in its library and on its device, or None if the entry is None.

    It must not contain NaN, and must be finite unless ``infinite``.
    """
    value = state[key]
    if value is None:
        return None
    try:
        xp = array_namespace(state=value)
        right = bool(xp.isdtype(value.dtype, "real floating")) and value.ndim == 1
    except TypeError:
        right = False
    if not right or (length is not None and value.shape[0] != length):
        raise _refusal(state, key, f"an array of floating-point numbers, shape ({'n' if length is None else length},)")
    if is_checked(value, None):
        bad = xp.isnan(value) if infinite else xp.logical_not(xp.isfinite(value))
        if bool(xp.any(bad)):
            raise _refusal(state, key, "numbers that are not NaN" if infinite else "finite numbers")
    return xp.asarray(value, copy=True)


def _refusal(state: State, key: str, rule: str) -> ValueError:
    return ValueError(f"state of {state.get('kind')} must hold {rule} as {key}, got {_shown(state[key])}")


def _same(saved: object, wanted: object) -> bool:
    plain = isinstance(saved, _PLAIN) and isinstance(saved, bool) == isinstance(wanted, bool)
    return plain and saved == wanted


def _shown(value: object) -> str:
    """Return a value as text of bounded length."""
    if not isinstance(value, _PLAIN) or (isinstance(value, int) and abs(value) >= 1 << 63):
        shape = getattr(value, "shape", None)
        return f"{type(value).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
