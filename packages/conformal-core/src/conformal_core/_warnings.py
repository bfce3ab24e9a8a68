"""Warnings that name the line outside this package that led to them."""

import sys
import warnings


def warn(sentence: str) -> None:
    """Issue a UserWarning for the innermost caller outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("conformal_core."):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)
