"""Shapley values: the contribution of each modality, averaged over all orders of adding them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import reduce
from itertools import combinations
from math import comb
from operator import add
from typing import Protocol, Self, TypeVar


class Additive(Protocol):
    """Numbers, arrays and tensors."""

    def __add__(self, other: Self, /) -> Self: ...
    def __sub__(self, other: Self, /) -> Self: ...
    def __mul__(self, other: float, /) -> Self: ...


Player = TypeVar("Player", bound=Hashable)
Value = TypeVar("Value", bound=Additive)


def shapley(players: Sequence[Player], value: Callable[[frozenset[Player]], Value]) -> dict[Player, Value]:
    """Return the Shapley value φ of each player.

    φ of player m is the sum over the coalitions S without m, of s members each, of
    s! (M − s − 1)! / M! · (v(S ∪ {m}) − v(S)). The value of the empty coalition is zero, so the φ sum to v of all
    players. Cost: 2^M − 1 calls of `value`.

    Source: Shapley, *A Value for n-Person Games*, 1953.

    Parameters
    ----------
    players
        The M players.
    value
        v of a nonempty coalition: a number, an array or a tensor.

    Examples
    --------
    >>> worth = {frozenset("a"): 4.0, frozenset("b"): 1.0, frozenset("ab"): 7.0}
    >>> shapley("ab", worth.__getitem__)
    {'a': 5.0, 'b': 2.0}
    """
    many = len(players)
    coalitions = [frozenset(c) for size in range(1, many + 1) for c in combinations(players, size)]
    values = {coalition: value(coalition) for coalition in coalitions}

    def contribution(player: Player) -> Value:
        return reduce(
            add,
            (
                (v if len(coalition) == 1 else v - values[coalition - {player}])
                * (1 / (many * comb(many - 1, len(coalition) - 1)))
                for coalition, v in values.items()
                if player in coalition
            ),
        )

    return {player: contribution(player) for player in players}
