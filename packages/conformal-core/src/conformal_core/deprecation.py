"""How a name leaves these packages: with a warning that says what to use, and no sooner than it was promised.

Policy: what is deprecated in one minor version works, with a `DeprecationWarning`, until the minor version after the
next at least; the changelog names both. All packages of this family use this module.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Deprecation:
    """What is on its way out.

    Parameters
    ----------
    name : str
        As users write it.
    instead : str
        What to use.
    package : str
        The distribution that it leaves.
    since, until : str
        Versions as X.Y or X.Y.Z: the first that warns, and the first without it.
    """

    name: str
    instead: str
    package: str
    since: str
    until: str

    @property
    def message(self) -> str:
        """What is told."""
        return (
            f"{self.name} is deprecated since {self.package} {self.since} and will be gone in {self.until}: "
            f"use {self.instead}"
        )

    def overdue(self, version: str) -> bool:
        """Return whether it should have been gone in `version`.

        Examples
        --------
        >>> old = Deprecation("f", "g", "conformal-core", "0.2", "0.4")
        >>> old.overdue("0.3.9"), old.overdue("0.4.0"), old.overdue("0.10.0")
        (False, True, True)
        """
        return _numbers(version) >= _numbers(self.until)


OPEN: list[Deprecation] = []
"""All deprecations of the modules imported so far; tests hold each to its promise."""


def deprecated(instead: str, *, package: str, since: str, until: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function or class warn whenever it is called.

    Parameters
    ----------
    instead : str
        What to use.
    package, since, until : str
        See `Deprecation`.

    Examples
    --------
    >>> @deprecated("new", package="mine", since="0.2", until="0.4")
    ... def old(x):
    ...     return 2 * x
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     print(old(3), "|", seen[0].message)
    6 | old is deprecated since mine 0.2 and will be gone in 0.4: use new
    >>> _ = OPEN.pop()
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        deprecation = Deprecation(function.__qualname__, instead, package, since, until)
        OPEN.append(deprecation)

        @functools.wraps(function)
        def warn(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(deprecation.message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warn

    return wrap


def renamed(old: str, new: str, *, package: str, since: str, until: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take a keyword by its old name too, with a warning.

    Parameters
    ----------
    old, new : str
        Names of the keyword.
    package, since, until : str
        See `Deprecation`.

    Raises
    ------
    TypeError
        When the function is called, if both names are given.

    Examples
    --------
    >>> @renamed("level", "alpha", package="mine", since="0.2", until="0.4")
    ... def quantile(*, alpha):
    ...     return alpha
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     print(quantile(level=0.1), "|", seen[0].message)
    0.1 | level of quantile is deprecated since mine 0.2 and will be gone in 0.4: use alpha
    >>> _ = OPEN.pop()
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        deprecation = Deprecation(f"{old} of {function.__qualname__}", new, package, since, until)
        OPEN.append(deprecation)

        @functools.wraps(function)
        def warn(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__} takes {new} or, as it was called, {old}, got both")
                warnings.warn(deprecation.message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return warn

    return wrap


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))[:2]
