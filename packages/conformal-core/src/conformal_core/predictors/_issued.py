"""Thresholds that were issued for rows whose labels have not come yet."""

import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from conformal_core._arrays import to_host
from conformal_core._state import State, check_state, read_floats, read_thresholds
from conformal_core.level.base import Threshold

Array = Any
Ids = int | str | Sequence[int | str] | np.ndarray[Any, Any]
Key = bytes

_ROW, _ID = b"\0", b"\1"  # what a key was made of
_WIDTH = 17  # bytes of a key; 16 of them are a hash, which two of 10⁹ rows share with a probability of 10⁻²¹


class Issued:
    """Rows in the order they were predicted in, each with the threshold of its set, until the label comes.

    A row is found again by its id where it has one, and by its numbers otherwise: the oldest of equal rows first.

    Parameters
    ----------
    limit
        Rows that are kept. Beyond it the oldest are forgotten, and the first time a warning says so.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clear()
        self._warned = False

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def put(self, keys: Iterable[Key], threshold: float) -> None:
        """Remember the threshold of rows; a row with the id of an earlier one replaces it."""
        for key in keys:
            if key.startswith(_ID):
                self.take(key)
            self._rows[self._next] = key, threshold
            self._places.setdefault(key, deque()).append(self._next)
            self._next += 1
        while len(self._rows) > self._limit:
            self.take(next(iter(self._rows.values()))[0])  # the oldest row is also the oldest of its equals
            self._warn()

    def take(self, key: Key) -> float | None:
        """Return the threshold of a row and forget the row; None if there is none."""
        places = self._places.get(key)
        if places is None:
            return None
        _, threshold = self._rows.pop(places.popleft())
        if not places:
            del self._places[key]
        return threshold

    def check_kind(self, kind: type) -> None:
        """Refuse thresholds of another kind: with the parts that a level combined, or without."""
        if any(type(threshold) is not kind for _, threshold in self._rows.values()):
            raise ValueError("state of Issued must hold thresholds such as the level issues, got others")

    def state_dict(self) -> State:
        """Return the keys, and for each the place of its threshold in a list of them."""
        thresholds = list({id(threshold): threshold for _, threshold in self._rows.values()}.values())
        places = {id(threshold): place for place, threshold in enumerate(thresholds)}
        keys = b"".join(key for key, _ in self._rows.values())
        return {
            "kind": "Issued",
            "version": 1,
            "keys": np.frombuffer(keys, dtype=np.uint8).copy(),
            "places": np.asarray([places[id(threshold)] for _, threshold in self._rows.values()], dtype=np.int64),
            "thresholds": np.asarray(thresholds, dtype=np.float64),
            "parts": [np.asarray(getattr(t, "parts", ()), dtype=np.float64).ravel() for t in thresholds],
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        check_state(state, "Issued", {"keys", "places", "thresholds", "parts"})
        places = read_floats(state, "places", least=0.0)
        keys = read_floats(state, "keys", length=_WIDTH * len(places), least=0.0)
        values, parts = read_thresholds(state, "thresholds"), state["parts"]
        if len(places) > self._limit:
            raise ValueError(f"state of Issued must hold at most {self._limit} rows, got {len(places)}")
        if not isinstance(parts, (list, tuple)) or values is None or len(parts) != len(values):
            raise ValueError("state of Issued must hold the parts of each threshold, got others")
        if (keys > 255).any() or (places >= len(values)).any() or (keys % 1).any() or (places % 1).any():
            raise ValueError("state of Issued must hold keys of bytes and places of thresholds, got others")
        thresholds = [_with_parts(float(value), part) for value, part in zip(values, parts, strict=True)]
        self._clear()
        for key, place in zip(keys.astype(np.uint8).reshape(-1, _WIDTH), places.astype(np.int64).tolist(), strict=True):
            self.put([key.tobytes()], thresholds[place])

    def _clear(self) -> None:
        self._rows: OrderedDict[int, tuple[Key, float]] = OrderedDict()
        self._places: dict[Key, deque[int]] = {}
        self._next = 0

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"more than max_pending = {self._limit} predicted rows have no label yet: the oldest are forgotten, "
                f"and learned against the threshold of the day if their label comes after all",
                UserWarning,
                stacklevel=4,
            )


def keys_of_rows(rows: Array, axes: int) -> list[Key]:
    """Return a key for each row by its numbers; ``axes`` (0 or 1) are those of a row.

    Rows are compared as double-precision numbers, so that one is found again in any library.
    """
    if not isinstance(rows, np.ndarray):
        rows = to_host(rows.float() if str(rows.dtype) == "torch.bfloat16" else rows)  # numpy has no such kind
    host = np.add(rows, 0.0, dtype=np.float64)  # makes 0 of -0
    flat = [host] if host.ndim == axes else host.reshape(-1, host.shape[-1] if axes else 1)
    return [_ROW + blake2b(row.tobytes(), digest_size=_WIDTH - 1).digest() for row in flat]


def keys_of_ids(ids: Ids, rows: int) -> list[Key]:
    """Return a key for each id; refuse what is no integer or string, and another number of ids than rows."""
    plain = ids.tolist() if isinstance(ids, (np.ndarray, np.generic)) else ids
    several = isinstance(plain, Sequence) and not isinstance(plain, (str, bytes))
    named = list(plain) if several else [plain]  # type: ignore[arg-type]  # a sequence here
    for one in named:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer, str)):
            raise TypeError(f"ids must be integers or strings, got {type(one).__name__}")
    if len(named) != rows:
        raise ValueError(f"ids must name each of the {rows} rows, got {len(named)}")
    kinds = ((b"s" if isinstance(one, str) else b"i") + str(one).encode("utf-8", "surrogatepass") for one in named)
    return [_ID + blake2b(name, digest_size=_WIDTH - 1).digest() for name in kinds]


def _with_parts(value: float, parts: Array) -> float:
    try:
        pairs = np.asarray(to_host(parts), dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError("state of Issued must hold parts that are pairs of numbers, got others") from None
    if np.isnan(pairs).any():
        raise ValueError("state of Issued must hold parts that are not NaN, got nan")
    return Threshold(value, map(tuple, pairs.tolist())) if len(pairs) else value  # type: ignore[arg-type]  # pairs
