"""The same answer from numpy and torch, in double and single precision, in one process and in two.

Order statistics must be the same to the last bit, and those of single precision the rounded ones of double precision.
Scores are compared within a few units of the last place, and prediction sets where no score lies that close to the
threshold. Half a minute.
"""

import argparse
import sys
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import conformal_core as cc

SCORES = {"LAC": cc.LAC(), "Margin": cc.Margin(), "APS": cc.APS(), "RAPS": cc.RAPS(), "SAPS": cc.SAPS()}
ALPHA = 0.1


def libraries(rng: np.random.Generator, trials: int) -> tuple[str, bool]:
    """Compare numpy with torch: scores and sets of all kinds, quantiles, p-values, reliabilities."""
    different = 0
    for _ in range(trials):
        rows, classes = int(rng.integers(1, 400)), int(rng.integers(1, 300))
        probs, labels = rng.dirichlet(np.full(classes, 0.3), rows), rng.integers(0, classes, rows)
        there, labels_there = torch.from_numpy(probs), torch.from_numpy(labels)
        for score in SCORES.values():
            own, own_there = score(probs, labels), score(there, labels_there)
            different += not np.array_equal(own, own_there.numpy())
            qhat, qhat_there = cc.conformal_quantile(own, alpha=ALPHA), cc.conformal_quantile(own_there, alpha=ALPHA)
            different += float(qhat) != float(qhat_there)
            different += not np.array_equal(score.sets(probs, qhat), score.sets(there, qhat_there).numpy())
            every, every_there = score(probs), score(there)
            different += not np.array_equal(every, every_there.numpy())
            different += not np.array_equal(cc.p_values(own, every), cc.p_values(own_there, every_there).numpy())
            ours = cc.rank_reliability(every, labels, float(qhat))
            different += not np.array_equal(ours, cc.rank_reliability(every_there, labels_there, float(qhat)).numpy())
    return f"{different} of {trials * len(SCORES) * 6} comparisons differ in a bit", different == 0


def precisions(rng: np.random.Generator, trials: int) -> tuple[str, bool]:
    """Compare float32 with float64."""
    wrong = far = 0
    cells = near = 0
    for _ in range(trials):
        rows, classes = int(rng.integers(50, 400)), int(rng.integers(2, 300))
        probs = rng.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
        labels = rng.integers(0, classes, rows)
        for score in SCORES.values():
            wide, narrow = score(probs.astype(np.float64)), score(probs)
            rounding = 64 * np.finfo(np.float32).eps
            far += int((np.abs(wide - narrow) > rounding * np.maximum(1, np.abs(wide))).sum())
            own = score(probs.astype(np.float64), labels)
            qhat = cc.conformal_quantile(own, alpha=ALPHA)
            wrong += float(cc.conformal_quantile(own.astype(np.float32), alpha=ALPHA)) != float(np.float32(qhat))
            if not np.isfinite(qhat):
                continue
            q = cc.conformal_quantile(score(probs, labels), alpha=ALPHA)
            apart = cc.prediction_set(narrow, q) != cc.prediction_set(wide, qhat)
            close = np.abs(wide - qhat) <= 4 * rounding * max(1.0, float(qhat))
            cells, near, wrong = cells + apart.size, near + int(apart.sum()), wrong + int((apart & ~close).sum())
    said = f"{far} scores further apart than rounding, {near} of {cells} set members differ, all at the threshold"
    return said, wrong == far == 0


def _share(rank: int, meeting: str, scores: np.ndarray, out: str) -> None:
    """Work on every second score, and exchange with the other process."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    index = torch.arange(rank, len(scores), 2)
    mine = torch.from_numpy(scores)[index]
    buffer = cc.CalibrationBuffer(len(scores), like=mine)
    buffer.overwrite(index, mine)
    history, sketch = cc.History(), cc.Sketch(64)
    for memory in (history, sketch):
        memory.extend(mine)
    held: list[Any] = [None, None]
    dist.all_gather_object(held, [memory.state_dict() for memory in (buffer, history, sketch)])
    states = held[1 - rank]
    others: tuple[Any, ...] = (cc.CalibrationBuffer(len(scores), like=mine), cc.History(), cc.Sketch(64))
    for own, other, state in zip((buffer, history, sketch), others, states, strict=True):
        other.load_state_dict(state)
        own.merge(other)
    level = Fraction(1, 10)
    found = [float(buffer.quantile(alpha=ALPHA)), history.quantile(level), sketch.quantile(level), sketch.rank_error]
    np.save(f"{out}-{rank}.npy", np.asarray(found))
    dist.destroy_process_group()


def processes(rng: np.random.Generator, trials: int) -> tuple[str, bool]:
    """Compare two processes, each with half of the scores, with one that has all."""
    wrong, trials = 0, max(2, trials // 20)
    for _ in range(trials):
        scores = rng.gamma(2, size=int(rng.integers(100, 3000)))
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "found")
            mp.spawn(_share, args=(str(Path(folder) / "meeting"), scores, out), nprocs=2)
            one, two = (np.load(f"{out}-{rank}.npy") for rank in range(2))
        exact = float(cc.conformal_quantile(scores, alpha=ALPHA))
        wrong += one[0] != exact or one[1] != exact or not np.array_equal(one[:2], two[:2])
        k = cc.quantile_rank(len(scores), ALPHA) or 0
        for found in (one, two):
            wrong += not exact <= found[2] or int((scores < found[2]).sum()) > k - 1 + found[3]
    return f"{wrong} of {trials * 3} comparisons wrong (buffer and history exact, sketch within its bound)", wrong == 0


def main() -> int:
    """Compare, print a line for each, and return 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    trials, failed = 20 if options.quick else 100, 0
    for name, compare in {
        "numpy, torch": libraries,
        "float32, float64": precisions,
        "1, 2 processes": processes,
    }.items():
        said, right = compare(np.random.default_rng(options.seed), trials)
        failed += not right
        print(f"{name:<20}{'ok' if right else 'FAILED':>8}  {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
