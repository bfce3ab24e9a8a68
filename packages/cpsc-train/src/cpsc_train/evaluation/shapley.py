"""Shapley values: how much each modality adds, averaged over the orders in which they could have come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from math import comb
from typing import Protocol, Self, TypeVar


class Additive(Protocol):
    """Numbers, arrays and tensors."""

    def __add__(self, other: Self, /) -> Self: ...
    def __sub__(self, other: Self, /) -> Self: ...
    def __mul__(self, other: float, /) -> Self: ...


Player = TypeVar("Player", bound=Hashable)
Value = TypeVar("Value", bound=Additive)


def shapley(players: Sequence[Player], value: Callable[[frozenset[Player]], Value]) -> dict[Player, Value]:
    """Return φ by player: Σ over S without m of s! (M − s − 1)! / M! · (v(S and m) − v(S)), s members.

    Source: Shapley, *A Value for n-Person Games*, 1953. The value of the empty coalition is taken as
    zero, so that the φ add up to the value of all players. Cost: 2^M − 1 calls of `value`.

    Parameters
    ----------
    players
        The M players.
    value
        v, of a set of at least one player; a number, an array or a tensor.

    Examples
    --------
    >>> worth = {frozenset("a"): 4.0, frozenset("b"): 1.0, frozenset("ab"): 7.0}
    >>> shapley("ab", worth.__getitem__)
    {'a': 5.0, 'b': 2.0}
    """
    many = len(players)
    coalitions = [frozenset(c) for size in range(1, many + 1) for c in combinations(players, size)]
    worth = {coalition: value(coalition) for coalition in coalitions}
    found = {}
    for player in players:
        parts = [
            (gain if len(coalition) == 1 else gain - worth[coalition - {player}])
            * (1 / (many * comb(many - 1, len(coalition) - 1)))
            for coalition, gain in worth.items()
            if player in coalition
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        found[player] = total
    return found
