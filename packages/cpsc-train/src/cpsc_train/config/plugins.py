"""Members of a family, and recipes, that other distributions register as entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cpsc_train.errors import UserError, out_of_memory, reason


def plugin_names(group: str) -> list[str]:
    """Return the names that installed distributions register in an entry-point group, without importing anything."""
    return sorted(entry_points(group=group).names) if group else []


def load_plugin(group: str, name: str, kind: type | None = None) -> Any:
    """Import the object that an entry point refers to.

    Parameters
    ----------
    group, name
        The entry point.
    kind
        The family of options that the object must be a member of, by its own name. If None, it must be callable.

    Raises
    ------
    UserError
        If it cannot be imported or is of another kind; names the distribution and the entry point.
    """
    point = next(iter(entry_points(group=group, name=name)))
    try:
        plugin = point.load()
    except Exception as error:  # the module of another distribution can fail in any way
        if out_of_memory(error):
            raise
        raise _broken(point, f"cannot be loaded ({reason(error)})") from None
    if kind is None and not callable(plugin):
        raise _broken(point, f"must be callable, got {plugin!r}")
    if kind is not None and not (isinstance(plugin, type) and issubclass(plugin, kind)):
        raise _broken(point, f"must be a subclass of {kind.__name__}, got {plugin!r}")
    if kind is not None and plugin.name != name:
        raise _broken(point, f"must have the name {name!r}, got {plugin.name!r}")
    return plugin


def _broken(point: EntryPoint, what: str) -> UserError:
    owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    return UserError(f"plug-in of {owner}: entry point {point.group}: {point.name} = {point.value} {what}")
