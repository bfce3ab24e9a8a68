"""Ten million steps: order statistics do not drift, memory does not grow, and a step costs as much as at first.

Every tenth of the stream the threshold is compared with one computed from scratch, from a plain copy of what the memory
must hold. About four minutes; a few seconds with `--quick`.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import conformal_core as cc

ALPHA, KEPT, DECAY = Fraction(1, 10), 1000, 0.99
PIECE = 100  # steps between thresholds


def resident() -> float:
    """Return the memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 2**20


def of_window(seen: np.ndarray) -> float:
    """Threshold of the last scores."""
    return float(cc.conformal_quantile(seen[-KEPT:], alpha=ALPHA))


def of_exponential(seen: np.ndarray) -> float:
    """Threshold of all scores, with weights from their ages."""
    held = seen[-5000:][::-1]
    order = np.argsort(held)
    mass = np.cumsum(DECAY ** np.arange(1, len(held) + 1)[order])
    # The new score has weight 1, that of the last step `DECAY`.
    place = np.searchsorted(mass, (mass[-1] + 1) * (1 - float(ALPHA)))
    return float(held[order][place]) if place < len(mass) else math.inf


def of_history(seen: np.ndarray) -> float:
    """Threshold of all scores."""
    return float(cc.conformal_quantile(seen, alpha=ALPHA))


MEMORIES: dict[str, tuple[Callable[[], Any], Callable[[np.ndarray], float], float]] = {
    # What memory may grow by, in MiB: the allocator moves by a few, a sketch grows by its logarithm, a list freely.
    "Window(1000)": (lambda: cc.Window(KEPT), of_window, 8),
    "Exponential(0.99)": (lambda: cc.Exponential(DECAY), of_exponential, 8),
    "Sketch": (cc.Sketch, of_history, 48),
    "History": (cc.History, of_history, math.inf),
}


def walk(name: str, steps: int, seed: int) -> tuple[str, bool]:
    """Walk a stream; return what was measured, and whether it was right."""
    make, exact, may_grow = MEMORIES[name]
    memory, seen = make(), np.random.default_rng(seed).gamma(2, size=steps)
    seen *= 1 + np.arange(steps) / steps  # a slow drift
    began, rates, sizes, wrong = resident(), [], [], 0
    for tenth in np.split(seen, 10):
        start = time.perf_counter()
        for piece in np.split(tenth, len(tenth) // PIECE):
            for score in piece.tolist():
                memory.add(score)
            memory.quantile(ALPHA) if name != "Sketch" else None
        rates.append(len(tenth) / (time.perf_counter() - start))
        sizes.append(resident())
        so_far = seen[: len(rates) * len(tenth)]
        got, want = memory.quantile(ALPHA), exact(so_far)
        if isinstance(memory, cc.Sketch):
            k = len(so_far) + 1 - (len(so_far) + 1) // 10
            wrong += not want <= got or int((so_far < got).sum()) > k - 1 + memory.rank_error
        else:
            wrong += got != want
    grown = sizes[-1] - sizes[0]
    said = f"{rates[0]:.0f} to {rates[-1]:.0f} steps/s, {began:.0f} MiB, after a tenth {sizes[0]:.0f}"
    return f"{said}, at the end {sizes[-1]:.0f}, {10 - wrong} of 10 thresholds right", wrong == 0 and grown <= may_grow


def main() -> int:
    """Walk the streams, print a line for each, and return 1 if one drifted or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    steps, failed = 200_000 if options.quick else 10_000_000, 0
    for name in MEMORIES:
        if options.only in name:
            said, right = walk(name, steps, options.seed)
            failed += not right
            print(f"{name:<20}{steps:>10}  {'ok' if right else 'FAILED'}  {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
