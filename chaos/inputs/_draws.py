"""What is given to a public function: arrays of any library, dtype, shape and value, most of them valid."""

import importlib
from typing import Any

import numpy as np
from hypothesis import strategies as st

LIBRARIES = ("numpy", "torch", "array_api_strict")
FLOATS = ("float64", "float32", "float16", "bfloat16")
OTHERS = ("int64", "int32", "uint8", "bool", "complex64")
SPECIAL = (0.0, -0.0, 1.0, 0.5, 5e-324, 1e-310, 1e-40, 1e-8, 60000.0, 3e38, 1.7e308, float("nan"), float("inf"))
SIZES = st.sampled_from([0, 1, 1, 2, 3, 4, 7, 20])


class Drawn:
    """An array of a library, and what it holds in double precision."""

    def __init__(self, library: str, values: np.ndarray, dtype: str) -> None:
        xp = importlib.import_module(library)
        if dtype == "bfloat16" and library != "torch":
            dtype = "float16"
        with np.errstate(all="ignore"):
            if library == "torch":
                self.array: Any = xp.from_numpy(np.array(values)).to(getattr(xp, dtype))
                held = self.array.to(xp.complex128 if dtype.startswith("complex") else xp.float64).numpy()
            else:
                if library == "array_api_strict" and dtype == "float16":
                    dtype = "float32"
                made = np.asarray(values).astype(dtype)
                self.array = made if library == "numpy" else xp.asarray(made)
                held = made.astype(np.complex128 if dtype.startswith("complex") else np.float64)
        self.held: np.ndarray = held
        self.dtype = dtype
        self.library = library

    @property
    def floating(self) -> bool:
        """Whether these are real floating-point numbers."""
        return self.dtype in FLOATS

    @property
    def integral(self) -> bool:
        """Whether these are integers."""
        return self.dtype in ("int64", "int32", "uint8")

    @property
    def real(self) -> bool:
        """Whether these are numbers, which conformal-core takes integers for as well."""
        return self.floating or self.integral

    @property
    def numeric(self) -> bool:
        """Whether these are finite numbers, integers included."""
        return self.real and bool(np.isfinite(self.held).all())

    @property
    def finite(self) -> bool:
        """Whether these are finite floating-point numbers."""
        return self.floating and bool(np.isfinite(self.held).all())

    def __repr__(self) -> str:
        return f"{self.library} {self.dtype} {self.held.shape} {self.held.tolist()}"


def rarely(draw: Any, one_in: int = 8) -> bool:
    """Say yes now and then."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


def library(draw: Any) -> str:
    """Draw an array library."""
    return draw(st.sampled_from(LIBRARIES))


def shape(draw: Any, most: int = 3) -> tuple[int, ...]:
    """Draw a shape, scalars and empty ones included."""
    return tuple(draw(st.lists(SIZES, max_size=most)))


def _generator(draw: Any) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def _dtype(draw: Any, usual: tuple[str, ...]) -> str:
    others = tuple(d for d in FLOATS + OTHERS if d not in usual)
    return draw(st.sampled_from(others if rarely(draw, 12) else usual))


def numbers(draw: Any, lib: str, of: tuple[int, ...], *, signed: bool = True, least: float = 0.0) -> Drawn:
    """Draw real numbers, with ties, and now and then one that is special."""
    rng = _generator(draw)
    values = rng.integers(0, 6, of) / 5 if rarely(draw, 3) else rng.normal(size=of) if signed else rng.random(of)
    values = np.array(values if signed else np.maximum(values, least), dtype=np.float64)
    if rarely(draw, 4) and values.size:
        values[rng.random(of) < 0.3] = draw(st.sampled_from(SPECIAL)) * (1 if not signed or rarely(draw, 2) else -1)
    return Drawn(lib, values, _dtype(draw, FLOATS))


def rows(draw: Any, lib: str, of: tuple[int, ...]) -> Drawn:
    """Draw rows of probabilities, with ties and zeros, and now and then some that are none."""
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
    """Draw labels, now and then some out of range."""
    rng = _generator(draw)
    low, high = (-2, classes + 3) if rarely(draw) else (0, max(classes, 1))
    return Drawn(lib, rng.integers(low, high, of), _dtype(draw, ("int64", "int32", "uint8")))


def booleans(draw: Any, lib: str, of: tuple[int, ...]) -> Drawn:
    """Draw sets."""
    return Drawn(lib, _generator(draw).random(of) < 0.5, _dtype(draw, ("bool",)))


def alpha(draw: Any) -> Any:
    """Draw a level, now and then one that is none."""
    good = st.sampled_from([0.1, 0.05, 0.5, 0.3, 0.9, 0.999, 1e-9, 0.07])
    bad = st.sampled_from([0, 1, -0.1, 1.5, float("nan"), float("inf"), True, None, "0.1", [], [0.1, 2.0], 1j])
    return draw(bad if rarely(draw, 10) else good)


def to_numpy(result: Any) -> np.ndarray:
    """Return what a function gave, in double precision."""
    if type(result).__module__.startswith("torch"):
        import torch  # noqa: PLC0415  # only once it is there

        result = result.detach().to(torch.float64).numpy()
    return np.asarray(result, dtype=np.float64)
