"""Import of modules that register data sets, methods and the like, before these are looked up by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from cpsc_train.errors import UserError, out_of_memory, reason


def import_modules(names: Iterable[str]) -> None:
    """Import modules in order, each a ``package.module`` or the path of a ``FILE.py``.

    The folder of a file is added to the end of the search path, so that other processes can import the file by its
    name. A file that is missing is accepted if a file of the same name has been imported from elsewhere. Raises
    UserError if a module cannot be imported, a file is missing, or its name is that of another module.

    Examples
    --------
    >>> import_modules(["json"])
    >>> import_modules(["no_such"])
    Traceback (most recent call last):
        ...
    cpsc_train.errors.UserError: --import no_such cannot be imported: ModuleNotFoundError: No module named 'no_such'
    """
    for name in names:
        if is_file(name):
            _import_file(Path(name))
        else:
            load_module(name, f"--import {name}")


def is_file(name: str) -> bool:
    """Return whether the name of a module is the path of a file."""
    return name.endswith(".py")


def located(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names without repetition, and with absolute paths of files."""
    return tuple(dict.fromkeys(str(Path(name).resolve()) if is_file(name) else name for name in names))


def load_module(name: str, what: str) -> ModuleType:
    """Import a module by its name; raise UserError, which starts with `what`, if that fails in any way."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module can fail in any way while it is imported
        if out_of_memory(error):
            raise
        raise UserError(f"{what} cannot be imported: {reason(error)}") from None


def _import_file(path: Path) -> None:
    what = f"--import {path}"
    before = sys.modules.get(path.stem)
    if not path.is_file():
        if before is None or Path(_file(before)).name != path.name:
            raise UserError(f"{what}: no such file: name its new place with --import")
        return
    if not path.stem.isidentifier():
        raise UserError(f"{what}: the name must be one of a Python module: use letters, digits and underscores")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    imported = load_module(path.stem, what)
    if Path(_file(imported)).resolve() != path.resolve():
        raise UserError(f"{what}: the name is that of another module, {_file(imported) or path.stem}: rename the file")


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""
