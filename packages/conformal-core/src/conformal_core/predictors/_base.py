"""Interface by which predictors are combined."""

from collections.abc import Callable
from typing import Any

from conformal_core._settings import Saved

Array = Any
Change = Callable[[], None]


def unchanged() -> None:
    """Change nothing."""


class Predictor(Saved):
    """Base of the predictors that can be combined.

    A step is checked before it changes anything, so that several predictors can take it together or not at all: the
    ``_plan`` methods take the arguments of ``predict`` and ``update``, check them, and return the change as a function
    that cannot fail.
    """

    calibrate: Callable[..., None]
    _plan_predict: Callable[..., tuple[Array, Change]]
    _plan_update: Callable[..., Change]
