"""Modules of a user's own, by import path."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from cpsc_train.errors import UserError


def build_imported(path: str, options: Mapping[str, Any], kind: str, **arguments: Any) -> nn.Module:
    """Import ``package.module:attribute`` and call it with the arguments and options.

    Raises
    ------
    UserError
        If the path cannot be imported, the call fails, or what it returns is not a module.
    """
    module, colon, attribute = path.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"{kind}.path must read package.module:attribute, got {path!r}")
    try:
        built = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UserError(f"{kind}.path {path!r} cannot be imported: {error}") from None
    except AttributeError:
        raise UserError(f"{kind}.path {path!r}: {module} has no {attribute!r}") from None
    try:
        result = built(**arguments, **options)
    except TypeError as error:
        raise UserError(f"{kind}.path {path!r} cannot be called with {', '.join(arguments)}: {error}") from None
    if not isinstance(result, nn.Module):
        raise UserError(f"{kind}.path {path!r} must return a torch module, got {type(result).__name__}")
    return result
