"""Validation of saved states, and their conversion to flat dictionaries of arrays.

A state may come from an untrusted file. Objects read all entries with these functions before they change anything, so
an invalid state changes nothing.
"""

import json
import math
import re
import sys
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._arrays import array_namespace, from_host, is_torch, to_host
from conformal_core.checks import is_checked

Array = Any
State = dict[str, Any]
VERSION = 1

_PLAIN = (str, int, float, type(None))

_TREE = "state"


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


def refuse_if(wrong: object, state: State, rule: str, got: object = "others") -> None:
    """Raise ValueError with the rule that an entry breaks, if it does."""
    if wrong:
        raise ValueError(f"state of {state['kind']} must hold {rule}, got {got}")


def read_states(state: State, key: str, count: int) -> list[State]:
    """Return a list of ``count`` states."""
    value = state[key]
    got = len(value) if isinstance(value, (list, tuple)) else type(value).__name__
    refuse_if(got != count, state, f"{count} {key}", got)
    return list(value)


def load_together(*pairs: tuple[Any, State]) -> None:
    """Load a state into each object, or into none if one of them is refused."""
    before = [(target, target.state_dict()) for target, _ in pairs]
    try:
        for target, state in pairs:
            target.load_state_dict(state)
    except (TypeError, ValueError):
        for target, state in before:
            target.load_state_dict(state)
        raise


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
    """Return the number of classes of a calibrated predictor, or None."""
    return None if state["classes"] is None else read_count(state, "classes")


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
    """Return a copy of an array (n,) without NaN, finite unless ``infinite``, or None if the entry is None."""
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
    if not isinstance(value, _PLAIN) or (isinstance(value, int) and abs(value) >= 1 << 63):
        shape = getattr(value, "shape", None)
        return f"{type(value).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def flatten_state(state: State, /) -> dict[str, np.ndarray[Any, Any]]:
    """Convert a state to a flat dictionary of numpy arrays of numbers and text, for files without pickle.

    Parameters
    ----------
    state
        Result of ``state_dict`` of a predictor, memory, level, novelty score or buffer.

    Returns
    -------
    dict
        For ``numpy.savez(path, **flatten_state(state))``, for example.

    Raises
    ------
    TypeError
        If the state contains anything but dictionaries, lists, arrays, numbers, text and None.

    Examples
    --------
    >>> import io
    >>> from conformal_core import LAC, SplitClassifier
    >>> predictor, file = SplitClassifier(LAC(), alpha=0.5), io.BytesIO()
    >>> predictor.calibrate([[0.75, 0.25], [0.5, 0.5]], [0, 1])
    >>> np.savez(file, **flatten_state(predictor.state_dict()))
    >>> loaded = SplitClassifier(LAC(), alpha=0.5)
    >>> loaded.load_state_dict(unflatten_state(np.load(io.BytesIO(file.getvalue()))))
    >>> loaded.qhat
    array(0.5)
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def plain(value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        array_namespace(state=value)  # a TypeError for anything but an array
        name = f"array_{len(arrays)}"
        whole = value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value  # type: ignore[attr-defined]
        arrays[name] = to_host(whole)
        return {_TREE: name, "torch": is_torch(value)}

    text = json.dumps(state, default=plain)
    return {_TREE: np.asarray(text), **arrays}


def unflatten_state(arrays: Mapping[str, Any], /) -> State:
    """Restore a state from the result of :func:`flatten_state`, or of ``numpy.load``.

    Parameters
    ----------
    arrays
        Mapping of names to arrays.

    Returns
    -------
    dict
        State for ``load_state_dict``, which validates it. Tensors are restored on the CPU, arrays of libraries other
        than torch as numpy arrays.

    Raises
    ------
    ValueError
        If it does not come from :func:`flatten_state`, lacks an array, or contains tensors and torch is not imported.
    """

    def whole(entry: dict[str, Any]) -> Any:
        if set(entry) != {_TREE, "torch"}:
            return entry
        name = str(entry[_TREE])
        if name not in arrays:
            raise ValueError(f"arrays must hold {name[:40]} beside {_TREE!r}, got {', '.join(map(str, arrays))}")
        array = np.asarray(arrays[name])
        if not entry["torch"]:
            return array
        if "torch" not in sys.modules:
            raise ValueError("arrays must be read after torch is imported, because they were tensors")
        return from_host(array.copy(), sys.modules["torch"].empty(0))

    if _TREE not in arrays:
        raise ValueError(f"arrays must hold {_TREE!r}, as flatten_state makes them, got {', '.join(map(str, arrays))}")
    try:
        state = json.loads(str(np.asarray(arrays[_TREE])[()]), object_hook=whole)
    except (json.JSONDecodeError, RecursionError):
        state = None
    if isinstance(state, dict):
        return state
    raise ValueError(f"arrays[{_TREE!r}] must be the text of a dictionary, as flatten_state makes it, got other text")
