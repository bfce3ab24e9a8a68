"""What every saved state has in common: a kind, a version, and a clear refusal of anything else."""

from collections.abc import Collection
from typing import Any

State = dict[str, Any]
VERSION = 1


def check_state(state: State, kind: str, keys: Collection[str], **settings: object) -> None:
    """Refuse a state of another kind, of an unknown version, with keys missing, or saved under other settings.

    Raises
    ------
    TypeError
        If ``state`` is not a dictionary.
    ValueError
        If it does not fit; the message says what was expected.
    """
    if not isinstance(state, dict):
        raise TypeError(f"state must be a dict from state_dict(), got {type(state).__name__}")
    if state.get("kind") != kind:
        raise ValueError(f"state must be of kind {kind!r}, got {state.get('kind')!r}")
    if state.get("version") != VERSION:
        version = state.get("version")
        newer = isinstance(version, int) and version > VERSION
        hint = ": a newer release of conformal-core saved it: install that one" if newer else ""
        raise ValueError(f"state of {kind} must have version {VERSION}, got {version!r}{hint}")
    if missing := sorted({*keys, *settings} - set(state)):
        raise ValueError(f"state of {kind} must hold {', '.join(missing)}, got only {', '.join(sorted(state))}")
    for name, value in settings.items():
        if state[name] != value:
            raise ValueError(f"state of {kind} must have {name} = {value!r} as here, got {state[name]!r}")
