"""States as flat dictionaries of numpy arrays, for ``numpy.savez`` and other formats without pickle."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformal_core._arrays import array_namespace, from_host, is_torch, to_host
from conformal_core._state import State

_TREE = "state"


def flatten_state(state: State, /) -> dict[str, np.ndarray[Any, Any]]:
    """Convert a state to a flat dictionary of numpy arrays: a text, and the arrays it refers to.

    Parameters
    ----------
    state
        Result of ``state_dict`` of a predictor, memory, level, novelty score or buffer.

    Returns
    -------
    dict
        Arrays of numbers and text, not of objects: ``numpy.savez(path, **flatten_state(state))`` and
        ``numpy.load(path)`` work without pickle.

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
    """Restore a state from the result of :func:`flatten_state`.

    Parameters
    ----------
    arrays
        Result of :func:`flatten_state`, or of ``numpy.load``.

    Returns
    -------
    dict
        State for ``load_state_dict``, which validates it. Torch tensors are restored on the CPU, arrays of other
        libraries as numpy arrays.

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
