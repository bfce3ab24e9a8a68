"""Random calls of public functions: arrays of any library, dtype, shape and value, and a judge of each call.

A call must return what a reference in double precision returns, or raise a TypeError or ValueError whose message names
the argument; it may refuse only what the reference refuses.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LIBRARIES = tuple(name for name in ("numpy", "torch", "array_api_strict") if find_spec(name))
EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}
LOOSE = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
FLOATS = tuple(EPS)
INTEGERS = ("int64", "int32", "uint8")
OTHERS = (*INTEGERS, "bool", "complex64")
SPECIAL = (0.0, -0.0, 1.0, 0.5, 5e-324, 1e-310, 1e-40, 1e-8, 60000.0, 3e38, 1.7e308, float("nan"), float("inf"))
SIZES = st.sampled_from([0, 1, 1, 2, 3, 4, 7, 20])


def fuzz(examples: int) -> settings:
    """Return the settings of a test that makes so many random calls."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


class Drawn:
    """An array of a library (`array`) and its values in double precision (`values`)."""

    def __init__(self, library: str, values: np.ndarray, dtype: str) -> None:
        xp = importlib.import_module(library)
        if dtype == "bfloat16" and library != "torch":
            dtype = "float16"
        wide = "complex128" if dtype.startswith("complex") else "float64"
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if library == "torch":
                self.array: Any = xp.from_numpy(np.array(values)).to(getattr(xp, dtype))
                self.values: np.ndarray = self.array.to(getattr(xp, wide)).numpy()
            else:
                if library == "array_api_strict" and dtype == "float16":
                    dtype = "float32"
                plain = np.asarray(values).astype(dtype)
                self.array = plain if library == "numpy" else xp.asarray(plain)
                self.values = plain.astype(wide)
        self.dtype = dtype
        self.library = library

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATS

    @property
    def integral(self) -> bool:
        return self.dtype in INTEGERS

    @property
    def real(self) -> bool:
        """Whether the dtype is a real number; conformal-core accepts integers too."""
        return self.floating or self.integral

    @property
    def numeric(self) -> bool:
        """Whether these are finite numbers, integers included."""
        return self.real and bool(np.isfinite(self.values).all())

    @property
    def finite(self) -> bool:
        """Whether these are finite floating-point numbers."""
        return self.floating and self.numeric

    def __repr__(self) -> str:
        return f"{self.library} {self.dtype} {self.values.shape} {self.values.tolist()}"


def rarely(draw: Any, one_in: int = 8) -> bool:
    return draw(st.integers(0, one_in - 1)) == one_in - 1


def library(draw: Any) -> str:
    return draw(st.sampled_from(LIBRARIES))


def shape(draw: Any, ndim: int = 3) -> tuple[int, ...]:
    """Draw a shape of at most `ndim` dimensions; scalars and empty arrays included."""
    return tuple(draw(st.lists(SIZES, max_size=ndim)))


def _generator(draw: Any) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def _dtype(draw: Any, usual: tuple[str, ...]) -> str:
    others = tuple(name for name in FLOATS + OTHERS if name not in usual)
    return draw(st.sampled_from(others if rarely(draw, 12) else usual))


def numbers(draw: Any, lib: str, of: tuple[int, ...], *, signed: bool = True) -> Drawn:
    """Draw real numbers with ties; sometimes some are special (NaN, infinite, denormal, huge)."""
    rng = _generator(draw)
    values = rng.integers(0, 6, of) / 5 if rarely(draw, 3) else rng.normal(size=of) if signed else rng.random(of)
    values = np.array(values, dtype=np.float64)
    if rarely(draw, 4) and values.size:
        values[rng.random(of) < 0.3] = draw(st.sampled_from(SPECIAL)) * (1 if not signed or rarely(draw, 2) else -1)
    return Drawn(lib, values, _dtype(draw, FLOATS))


def rows(draw: Any, lib: str, of: tuple[int, ...]) -> Drawn:
    """Draw rows of probabilities with ties and zeros; sometimes some are not probabilities."""
    rng = _generator(draw)
    values = rng.integers(0, 4, of).astype(np.float64) if rarely(draw, 3) else rng.exponential(size=of) ** 2
    if of and of[-1]:
        values[..., 0] += values.sum(-1) == 0
        values = values / values.sum(-1, keepdims=True)
    if rarely(draw, 6) and values.size:
        values = np.array(values)
        values[rng.random(of) < 0.2] = draw(st.sampled_from((*SPECIAL, -0.25)))
    return Drawn(lib, values, _dtype(draw, FLOATS))


def labels(draw: Any, lib: str, of: tuple[int, ...], classes: int) -> Drawn:
    """Draw labels; sometimes some are out of range."""
    low, high = (-2, classes + 3) if rarely(draw) else (0, max(classes, 1))
    return Drawn(lib, _generator(draw).integers(low, high, of), _dtype(draw, INTEGERS))


def booleans(draw: Any, lib: str, of: tuple[int, ...]) -> Drawn:
    return Drawn(lib, _generator(draw).random(of) < 0.5, _dtype(draw, ("bool",)))


def alpha(draw: Any) -> Any:
    """Draw a miscoverage; sometimes an invalid one."""
    good = st.sampled_from([0.1, 0.05, 0.5, 0.3, 0.9, 0.999, 1e-9, 0.07])
    bad = st.sampled_from([0, 1, -0.1, 1.5, float("nan"), float("inf"), True, None, "0.1", [], [0.1, 2.0], 1j])
    return draw(bad if rarely(draw, 10) else good)


def to_numpy(result: Any) -> np.ndarray:
    """Return a result in double precision."""
    if type(result).__module__.startswith("torch"):
        result = result.detach().double().numpy()
    return np.asarray(result, dtype=np.float64)


def fits(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to another."""
    try:
        return np.broadcast_shapes(inner, outer) == outer
    except ValueError:
        return False


def valid_alpha(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool) and 0 < float(value) < 1


def valid_labels(drawn: Drawn, classes: int) -> bool:
    return drawn.integral and bool(((drawn.values >= 0) & (drawn.values < classes)).all())


def valid_rows(probs: Drawn) -> bool:
    """Whether these are probabilities whose sums differ from 1 by rounding at most."""
    if not probs.numeric or (probs.values < 0).any():
        return False
    error = np.abs(probs.values.sum(-1) - 1).max(initial=0)
    return bool(error <= {"float64": 1e-5, "float32": 3.4e-4, "float16": 0.03, "bfloat16": 0.08}.get(probs.dtype, 0.0))


def apart(one: np.ndarray, other: np.ndarray, *drawn: Drawn) -> np.ndarray:
    """Whether numbers differ by more than the coarser of two precisions resolves; always, if the precision is one."""
    eps = [EPS.get(x.dtype, EPS["float64"]) for x in drawn]
    if len(set(eps)) == 1:
        return np.ones(np.broadcast_shapes(one.shape, other.shape), dtype=bool)
    with np.errstate(all="ignore"):
        return ~(np.abs(one - other) <= 2 * max(eps) * np.maximum(np.abs(one), np.abs(other)) + 1e-7)


def moderate(*drawn: Drawn) -> bool:
    """Whether values neither overflow nor vanish in any dtype, so results can be compared."""
    sizes = [np.abs(x.values) for x in drawn]
    return all(x.finite for x in drawn) and all(((s < 100) & ((s > 1e-3) | (s == 0))).all() for s in sizes)


class Case(NamedTuple):
    """A call and its expected result.

    `want` is None where the call must raise. `tolerance` is absolute; if negative, it is relative to the result; if
    infinite, only the shape is compared. NaN in `want` accepts any value.
    """

    names: str
    call: Callable[[], Any]
    want: np.ndarray | None
    tolerance: float


def judge(case: Case) -> None:
    """Fail unless the call returns the expected result, or raises an error that names an argument."""
    names, call, want, tolerance = case
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*too few for alpha.*")
            got = to_numpy(call())
    except (TypeError, ValueError) as error:
        got, message = None, str(error)
    if got is None:
        assert want is None, f"refused valid input: {message}"
        assert any(name in message for name in names.split()), f"the message names no argument: {message}"
        return
    assert want is not None, f"returned {got} for invalid input"
    assert got.shape == want.shape
    if np.isinf(tolerance):
        return
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        if tolerance < 0:  # a result that overflows its dtype is infinite
            right = ~(np.isfinite(got) & np.isfinite(want))
            right |= error <= -tolerance * np.maximum(np.abs(want), 1) + 1e-2
        else:
            right = (got == want) | np.isnan(want) | (error <= tolerance)
    assert right.all(), f"returned {got}, expected {want}"


def check(build: Callable[[Any], Case], data: Any) -> None:
    """Draw a case and judge it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        case = build(data.draw)
    judge(case)
