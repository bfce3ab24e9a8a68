"""Online conformal prediction on any array library: exact, fast, tiny."""

from conformal_core.__about__ import __version__

__all__ = ["__version__"]
