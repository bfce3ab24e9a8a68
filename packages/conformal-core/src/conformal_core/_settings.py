"""Objects that are shown, rebuilt and saved with the arguments of their constructor."""

import inspect
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self, cast

import numpy as np

from conformal_core._state import VERSION, State, check_state
from conformal_core.quantile import as_fraction


class Settings:
    """Base of objects whose ``repr`` and clones use the arguments of the constructor only.

    The argument ``name`` is the first existing attribute of ``_given_name``, ``name`` and ``_name``.
    """

    def __repr__(self) -> str:
        try:
            arguments = self._arguments()
        except AttributeError:  # of a subclass that stores its arguments elsewhere
            return object.__repr__(self)
        parameters = inspect.signature(type(self).__init__).parameters
        parts = []
        for name, value in arguments.items():
            default = parameters[name].default
            if default is inspect.Parameter.empty and parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
                parts.append(shown(value))
            elif default is inspect.Parameter.empty or shown(value) != shown(default):
                parts.append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted object with the same settings, for ``sklearn.base.clone``, or raise TypeError."""
        arguments = self._kept_arguments("cloned")
        return type(self)(**{name: fresh(name, value) for name, value in arguments.items()})

    def _kept_arguments(self, purpose: str) -> dict[str, Any]:
        try:
            return self._arguments()
        except AttributeError as error:
            kind = type(self).__name__
            raise TypeError(f"{kind} must keep the arguments of its constructor to be {purpose}: {error}") from None

    def _arguments(self) -> dict[str, Any]:
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        if type(self).__init__ is object.__init__:
            return {}
        return {name: self._argument(name) for name in names}

    def _argument(self, name: str) -> Any:
        for attribute in (f"_given_{name}", name, f"_{name}"):
            if attribute in vars(self):
                return vars(self)[attribute]
        return getattr(self, name)


class Resettable(Settings):
    """Base of objects that learn and can be reset to their settings."""

    def reset(self) -> None:
        """Forget what was learned; TypeError if a subclass does not keep the arguments of its constructor."""
        arguments = self._kept_arguments("reset")
        vars(self).clear()
        self.__init__(**arguments)  # type: ignore[misc]  # the same class, so the same arguments


class Saved(Settings):
    """Mix-in of objects with a state: kind, version, settings that must be the same when it is loaded, and the rest.

    A subclass that learns defines ``_learned``, which returns the rest, and ``_restore``, which reads it.
    """

    _kind: ClassVar[str]
    _saved: ClassVar[tuple[str, ...]] = ()  # arguments of the constructor that belong to the state

    def state_dict(self) -> State:
        """Return the state as arrays and numbers."""
        return {"kind": self._kind, "version": VERSION, **self._saved_settings(), **self._learned()}

    def load_state_dict(self, state: State) -> None:
        """Restore a saved state; raise ValueError if it does not fit."""
        check_state(state, self._kind, self._learned().keys(), **self._saved_settings())
        self._restore(state)

    def _saved_settings(self) -> State:
        settings = {name: self._argument(name) for name in self._saved}
        for name in {"alpha", "gamma"} & settings.keys():
            value = vars(self).get(f"_{name}", settings[name])
            settings[name] = ", ".join(str(as_fraction(one)) for one in (value if type(value) is tuple else (value,)))
        for name in {"score", "predictor"} & settings.keys():
            settings[name] = named(settings[name])
        return settings

    def _learned(self) -> State:
        return {}

    def _restore(self, state: State) -> None:
        """Do nothing if nothing was learned."""


def shown(value: object) -> str:
    """Return the source of a value, with numpy numbers and fractions as plain numbers if that is exact."""
    if isinstance(value, (Fraction, Decimal)):
        exact = Fraction(value)
        number = float(exact)
        return repr(number) if as_fraction(number) == exact else repr(str(exact))
    if isinstance(value, np.floating) and np.isfinite(value):
        return shown(as_fraction(cast("float", value)))  # the intended decimal, not its binary digits
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        return repr(value.item())
    if isinstance(value, (list, tuple)) and type(value) in {list, tuple}:
        parts = [shown(part) for part in value]
        if isinstance(value, list):
            return f"[{', '.join(parts)}]"
        return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
    return value.__name__ if inspect.isroutine(value) or isinstance(value, type) else repr(value)


def named(score: object) -> str:
    """Return the name of a score in a state: its source, or its type if the source is a memory address."""
    text = shown(score)
    return type(score).__name__ if " at 0x" in text else text


def fresh(name: str, value: Any) -> Any:
    """Return an unfitted copy of what learns, and anything else itself; TypeError for what cannot be copied."""
    if type(value) in {list, tuple}:
        return type(value)(fresh(name, part) for part in value)
    if hasattr(value, "__sklearn_clone__"):
        return value.__sklearn_clone__()
    if hasattr(value, "state_dict"):
        raise TypeError(f"{name} must have the method __sklearn_clone__ to be cloned, got {type(value).__name__}")
    return value
