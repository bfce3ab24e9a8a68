"""When a call on random arrays is right: it gives what it must, or refuses what it must by name."""

import argparse
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import _draws as d
import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

Case = tuple[str, Callable[[], Any], np.ndarray | None, float]
"""Names of the arguments, the call, what it must give (None: must refuse), and how far off it may be."""


def same(*drawn: d.Drawn) -> bool:
    return len({x.library for x in drawn}) == 1


def fits(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(inner, outer) == outer
    except ValueError:
        return False


EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}


def good_alpha(alpha: Any) -> bool:
    return isinstance(alpha, (int, float, str)) and not isinstance(alpha, bool) and 0 < float(alpha) < 1


def valid_labels(labels: d.Drawn, classes: int) -> bool:
    return labels.integral and bool(((labels.held >= 0) & (labels.held < classes)).all())


def summing(probs: d.Drawn) -> bool:
    """Whether rows sum to 1 clearly within, or clearly out of, what rounding explains."""
    off = np.abs(probs.held.sum(-1) - 1).max(initial=0)
    return bool(off <= {"float64": 1e-5, "float32": 3.4e-4, "float16": 0.03, "bfloat16": 0.08}.get(probs.dtype, 0.0))


def apart(one: np.ndarray, other: np.ndarray, *drawn: d.Drawn) -> np.ndarray:
    """Whether numbers differ by more than the coarser of two precisions tells apart; if they have one, always."""
    eps = [EPS.get(x.dtype, EPS["float64"]) for x in drawn]
    if len(set(eps)) == 1:
        return np.ones(np.broadcast_shapes(one.shape, other.shape), dtype=bool)
    with np.errstate(all="ignore"):
        return ~(np.abs(one - other) <= 2 * max(eps) * np.maximum(np.abs(one), np.abs(other)) + 1e-7)


def judge(case: Case) -> None:
    """Fail unless the call gives what it must, or refuses what it must by name."""
    names, call, want, off = case
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*too few for alpha.*")
            got = d.to_numpy(call())
    except (TypeError, ValueError) as error:
        assert want is None, f"refused what is valid: {error}"
        assert any(name in str(error) for name in names.split()), f"names no argument: {error}"
        return
    assert want is not None, f"gave {got} where it must refuse"
    assert got.shape == want.shape, f"shape {got.shape}, not {want.shape}"
    if np.isinf(off):
        return
    if off < 0:  # relative, to the largest number that went in; what overflows its dtype is infinite
        finite = np.isfinite(got) & np.isfinite(want)
        scale = np.maximum(np.abs(want), 1)
        assert (np.abs(got - want)[finite] <= -off * scale[finite] + 1e-2).all(), f"gave {got}, not {want}"
        return
    with np.errstate(invalid="ignore"):
        equal = (got == want) | np.isnan(want) | (np.abs(got - want) <= off)
    assert equal.all(), f"gave {got}, not {want}"


def described(error: BaseException) -> str:
    """Return what went wrong, where, and with which arrays."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    case = next(frame.f_locals["case"] for frame in frames if "case" in frame.f_locals)
    given = [cell.cell_contents for cell in case[1].__closure__ or ()]
    return f"{type(error).__name__}: {str(error)[:300]} in {frames[-1].f_code.co_name}, given {str(given)[:400]}"


def fuzz(about: str | None, targets: Mapping[str, Callable[[Any], Case]], *, examples: int) -> int:
    """Try every target, print a line for each, and return 1 if any failed; `--quick` takes 150 examples."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=None)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    count, failed = options.examples or (150 if options.quick else examples), 0
    limits = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    for name, target in targets.items():
        if options.only not in name:
            continue
        tried = 0

        def run(case: Case) -> None:
            nonlocal tried
            tried += 1
            judge(case)

        strategy = st.composite(lambda draw, target=target: target(draw))()
        try:
            seed(options.seed)(limits(given(strategy)(run)))()
            verdict = "ok"
        except Exception as error:  # whatever escapes a public function is the finding
            failed += 1
            verdict = "FAILED " + "; ".join(described(one) for one in getattr(error, "exceptions", [error]))
        print(f"{name:<34}{tried:>8}  {verdict}", flush=True)
    return int(failed > 0)
