"""A hundred million calibration scores, in chunks, by eight sketches that are merged: threshold, error and memory.

The scores are never all in memory: each chunk is made from its seed, and made again to count how many lie below the
threshold. About a minute.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

import conformal_core as cc

CHUNK, PARTS = 1_000_000, 8


def chunk(seed: int, number: int) -> np.ndarray:
    """Make one chunk of scores."""
    return np.random.default_rng([seed, number]).random(CHUNK)


def of_part(chunks: int, part: int) -> Iterator[int]:
    """Return the numbers of the chunks of a part."""
    return iter(range(part, chunks, PARTS))


def resident() -> float:
    """Return the memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096 / 2**20


def main() -> int:
    """Fill, merge and ask; print a line for each size and level, and return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chunks, failed = (10 if options.quick else 100), 0
    for size in (1 << 12, 1 << 16):
        began, peak, filling = resident(), 0.0, time.perf_counter()
        sketches = [cc.Sketch(size) for _ in range(PARTS)]
        for part, sketch in enumerate(sketches):
            for number in of_part(chunks, part):
                sketch.extend(chunk(options.seed, number))
                peak = max(peak, resident())
        filling, merging = time.perf_counter() - filling, time.perf_counter()
        whole, *others = sketches
        whole.merge(*others)
        merging, n = time.perf_counter() - merging, len(whole)
        held = sum(level.nbytes for level in whole.state_dict()["levels"])
        print(f"size {size}: {n} scores in {filling:.0f} s, merged in {merging * 1e3:.0f} ms, {held / 1e6:.1f} MB, "
              f"memory +{peak - began:.0f} MiB")  # fmt: skip
        for alpha in (Fraction(1, 10), Fraction(1, 100)):
            qhat, k = whole.quantile(alpha), n + 1 - (n + 1) * alpha.numerator // alpha.denominator
            below = at_most = 0
            for number in range(chunks):
                scores = chunk(options.seed, number)
                below, at_most = below + int((scores < qhat).sum()), at_most + int((scores <= qhat).sum())
            right = at_most >= k and below <= k - 1 + whole.rank_error
            failed += not right
            print(f"  alpha {float(alpha):<5} rank {at_most - k:>7} above the exact one, of at most {whole.rank_error} "
                  f"({whole.rank_error / n:.4%} of n)  {'ok' if right else 'FAILED'}", flush=True)  # fmt: skip
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
