"""Timing of variants that take turns, for ratios within one run."""

import statistics
import time
from collections.abc import Callable


def medians(
    jobs: dict[str, Callable[[], object]],
    rounds: int,
    *,
    before: Callable[[], object] = lambda: None,
    warmup: int = 1,
) -> dict[str, float]:
    """Return the median seconds of each job over rounds in which each runs once, after `warmup` rounds.

    `before` a call is not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + warmup):
        for name, job in jobs.items():
            before()
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[warmup:]) for name, seconds in times.items()}
