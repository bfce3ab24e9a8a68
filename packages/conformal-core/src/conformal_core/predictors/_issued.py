"""Thresholds of predicted rows that wait for their label."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from conformal_core._arrays import to_host
from conformal_core._convert import Name, as_names
from conformal_core._state import State, check_state, read_floats, read_thresholds, refuse_if
from conformal_core.level.base import Threshold
from conformal_core.quantile import warn

Array = Any
Ids = Name | Sequence[Name] | Any  # or an array, tensor or column of them
Key = bytes

_ROW, _ID = b"\0", b"\1"  # first byte of a key: made of numbers, or of an id
_WIDTH = 17  # bytes of a key; 16 of them are a hash: two of 10⁹ rows collide with probability 10⁻²¹
_ALIKE = 64  # predictions of equal rows that wait before a warning
_LOST = 50  # consecutive updates of rows that are not waiting before a warning


class Row(NamedTuple):
    """Threshold of the set of a row, and the uniform draw of a randomized score (else 0)."""

    threshold: float
    draw: float = 0.0


class Issued:
    """Predicted rows in order, each with its threshold and draw, until its label arrives.

    A row is recognised by its id if it has one, otherwise by its numbers: the oldest of equal rows first. Beyond
    ``limit`` rows the oldest are dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clear()
        self._warned: set[str] = set()
        self._lost = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def put(self, keys: Sequence[Key], threshold: float, draws: Sequence[float] | None = None) -> None:
        """Add rows with their threshold and draws; a row replaces an earlier one with the same id."""
        for key, draw in zip(keys, [0.0] * len(keys) if draws is None else draws, strict=True):
            if key[:1] == _ID:
                self._pop(key)
            self._rows[self._next] = key, Row(threshold, draw)
            places = self._places.setdefault(key, self._next)
            if isinstance(places, deque):
                places.append(self._next)
                self._look_at_equals(places)
            elif places != self._next:
                self._places[key] = deque((places, self._next))
            self._next += 1
        while len(self._rows) > self._limit:
            self._pop(next(iter(self._rows.values()))[0])  # the oldest row is also the oldest of its equals
            self._warn(
                "full",
                f"more than max_pending = {self._limit} predicted rows still wait for a label: the oldest are "
                f"forgotten; if their labels still arrive, they are judged by the threshold in force then",
            )

    def take(self, key: Key) -> Row | None:
        """Remove and return a row; None if it is not waiting."""
        row = self._pop(key)
        self._lost = 0 if row is not None or not self._rows else self._lost + 1
        if self._lost >= _LOST:
            self._warn(
                "lost",
                f"none of the last {_LOST} updated rows is among the {len(self)} that were predicted and still wait "
                f"for a label: update rows in the form and precision they were predicted in, or with the same ids",
            )
        return row

    def take_all(self, keys: Sequence[Key]) -> list[Row | None]:
        return [self.take(key) for key in keys]

    def check_kind(self, threshold: float) -> None:
        """Raise ValueError for thresholds with parts if this one has none, and the reverse."""
        combined = isinstance(threshold, Threshold)
        if any(isinstance(row.threshold, Threshold) is not combined for _, row in self._rows.values()):
            raise ValueError("state of Issued must hold thresholds such as the level issues, got others")

    def state_dict(self) -> State:
        rows = [row for _, row in self._rows.values()]
        thresholds = list({id(row.threshold): row.threshold for row in rows}.values())
        places = {id(threshold): place for place, threshold in enumerate(thresholds)}
        keys = b"".join(key for key, _ in self._rows.values())
        return {
            "kind": "Issued",
            "version": 1,
            "keys": np.frombuffer(keys, dtype=np.uint8).copy(),
            "places": np.asarray([places[id(row.threshold)] for row in rows], dtype=np.int64),
            "draws": np.asarray([row.draw for row in rows], dtype=np.float64),
            "thresholds": np.asarray(thresholds, dtype=np.float64),
            "parts": [np.asarray(getattr(t, "parts", ()), dtype=np.float64).ravel() for t in thresholds],
        }

    def load_state_dict(self, state: State) -> None:
        check_state(state, "Issued", {"keys", "places", "draws", "thresholds", "parts"})
        places = read_floats(state, "places", least=0.0)
        keys = read_floats(state, "keys", length=_WIDTH * len(places), least=0.0)
        draws = read_floats(state, "draws", length=len(places), least=0.0)
        values: Any = read_thresholds(state, "thresholds")
        parts = state["parts"]
        refuse_if(len(places) > self._limit, state, f"at most {self._limit} rows", len(places))
        refuse_if(
            not isinstance(parts, (list, tuple)) or values is None or len(parts) != len(values),
            state,
            "the parts of each threshold",
        )
        refuse_if(
            (keys > 255).any() or (places >= len(values)).any() or (keys % 1).any() or (places % 1).any(),
            state,
            "keys of bytes and places of thresholds",
        )
        refuse_if((draws > 1).any(), state, "draws in [0, 1]")
        thresholds = [_with_parts(float(value), part) for value, part in zip(values, parts, strict=True)]
        self._clear()
        table = keys.astype(np.uint8).reshape(-1, _WIDTH)
        for key, place, draw in zip(table, places.astype(np.int64).tolist(), draws.tolist(), strict=True):
            self.put([key.tobytes()], thresholds[place], [draw])

    def _clear(self) -> None:
        self._rows: OrderedDict[int, tuple[Key, Row]] = OrderedDict()
        self._places: dict[Key, int | deque[int]] = {}  # of rows with one key, oldest first; nearly always it is one
        self._next = 0

    def _pop(self, key: Key) -> Row | None:
        places = self._places.get(key)
        if places is None:
            return None
        if isinstance(places, deque):
            place = places.popleft()
            if len(places) == 1:
                self._places[key] = places[0]
        else:
            place = places
            del self._places[key]
        return self._rows.pop(place)[1]

    def _look_at_equals(self, places: deque[int]) -> None:
        """Warn if equal rows were predicted at many times; rows of one batch have one threshold."""
        many = len(places) >= _ALIKE and len(places).bit_count() == 1  # at powers of two: a batch costs O(its rows)
        if many and len({id(self._rows[place][1].threshold) for place in places}) >= _ALIKE:
            self._warn(
                "equal",
                f"{len(places)} predictions with the same numbers wait for labels and cannot be told apart: a label is "
                f"taken for that of the oldest; if some labels never come, give ids to predict and update",
            )

    def _warn(self, kind: str, sentence: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warn(sentence)


def keys_of_rows(rows: Array, axes: int) -> list[Key]:
    """Return a key for each row by its numbers in double precision; a row has ``axes`` (0 or 1) axes."""
    if not isinstance(rows, (np.ndarray, np.float64)):
        rows = to_host(rows.float() if str(rows.dtype) == "torch.bfloat16" else rows)  # numpy has no such kind
    host = np.add(rows, 0.0, dtype=np.float64)  # makes 0 of -0
    flat = [host] if host.ndim == axes else host.reshape(-1, host.shape[-1] if axes else 1)
    return [_ROW + blake2b(row.tobytes(), digest_size=_WIDTH - 1).digest() for row in flat]


def keys_of_ids(ids: Ids, rows: int) -> list[Key]:
    """Return a key for each id, an integer or string; there must be one for each row."""
    names = as_names("ids", ids)
    named = names if isinstance(names, list) else [names]
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
