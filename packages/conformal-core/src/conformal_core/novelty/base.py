"""What a novelty score is: learned from training features, asked about others."""

from typing import Any, Protocol, runtime_checkable

from conformal_core._state import State

Array = Any


@runtime_checkable
class NoveltyScore(Protocol):
    """How far features lie from those of training: a squared distance, at least 0, larger for more unlike ones.

    A new one defines these methods; see ``novelty/mahalanobis.py``.
    """

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Learn from further training features (..., d), and their labels (...) where classes matter."""
        ...

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Score features (..., d): (...)."""
        ...

    def state_dict(self) -> State:
        """Return what was learned as arrays and numbers."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state."""
        ...
