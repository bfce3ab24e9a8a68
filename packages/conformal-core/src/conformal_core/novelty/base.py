"""Interface of novelty scores."""

from typing import Any, Protocol, runtime_checkable

from conformal_core._state import State

Array = Any


@runtime_checkable
class NoveltyScore(Protocol):
    """Squared distance of features from those of training, at least 0.

    Any object with these methods is a novelty score; it need not subclass this protocol. See ``novelty/norm.py``.
    """

    def update(self, features: Array, labels: Array | None = None, *, check: bool | None = None) -> None:
        """Add training features (..., d), and their labels (...) if the score uses classes."""
        ...

    def __call__(self, features: Array, *, check: bool | None = None) -> Array:
        """Return the scores (...) of features (..., d)."""
        ...

    def state_dict(self) -> State:
        """Return the state as arrays and numbers."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Restore a saved state."""
        ...
