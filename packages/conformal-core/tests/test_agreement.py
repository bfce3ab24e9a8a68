"""The same answer from numpy and torch, in single and double precision, in one process and in two.

Order statistics must be the same to the last bit, and those of single precision the rounded ones of double precision.
Scores are compared within a few units in the last place, and prediction sets where no score is that close to the
threshold.
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest

import conformal_core as cc

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCORES = [cc.LAC(), cc.Margin(), cc.APS(), cc.RAPS(), cc.SAPS()]
ALPHA = 0.1


def draw_rows(rng, most_rows=400, most_classes=300):
    rows, classes = int(rng.integers(50, most_rows)), int(rng.integers(2, most_classes))
    return rng.dirichlet(np.full(classes, 0.3), rows), rng.integers(0, classes, rows)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
def test_torch_gives_the_bits_of_numpy(score):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(100):
        arrays = draw_rows(rng)
        found = []
        for probs, labels in (arrays, map(torch.from_numpy, arrays)):
            own, every = score(probs, labels), score(probs)
            qhat = cc.conformal_quantile(own, alpha=ALPHA)
            sets, p = score.sets(probs, qhat), cc.p_values(own, every)
            found.append([own, every, qhat, sets, p, cc.rank_reliability(every, labels, float(qhat))])
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
def test_single_precision_is_double_precision_rounded(score):
    rng, rounding = np.random.default_rng(0), 64 * np.finfo(np.float32).eps
    for _ in range(100):
        wide_probs, labels = draw_rows(rng)
        probs = wide_probs.astype(np.float32)
        wide_probs = probs.astype(np.float64)
        wide, narrow, own = score(wide_probs), score(probs), score(wide_probs, labels)
        assert (np.abs(wide - narrow) <= rounding * np.maximum(1, np.abs(wide))).all()
        qhat = cc.conformal_quantile(own, alpha=ALPHA)
        assert float(cc.conformal_quantile(own.astype(np.float32), alpha=ALPHA)) == float(np.float32(qhat))
        if np.isfinite(qhat):
            narrow_qhat = cc.conformal_quantile(score(probs, labels), alpha=ALPHA)
            differ = cc.prediction_set(narrow, narrow_qhat) != cc.prediction_set(wide, qhat)
            assert (np.abs(wide - qhat)[differ] <= 4 * rounding * max(1.0, float(qhat))).all()


def _merge(rank, rendezvous, scores, out):
    """Calibrate on every second score, and merge with the other process."""
    import torch  # noqa: PLC0415  # runs in a process of its own
    from torch import distributed  # noqa: PLC0415

    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    index = torch.arange(rank, len(scores), 2)
    part = torch.from_numpy(scores)[index]
    makers = [lambda: cc.CalibrationBuffer(len(scores), like=part), cc.History, lambda: cc.Sketch(64)]
    buffer, history, sketch = memories = [make() for make in makers]
    buffer.overwrite(index, part)
    history.extend(part)
    sketch.extend(part)
    states = [None, None]
    distributed.all_gather_object(states, [memory.state_dict() for memory in memories])
    for memory, make, state in zip(memories, makers, states[1 - rank], strict=True):
        other = make()
        other.load_state_dict(state)
        memory.merge(other)
    level = Fraction(1, 10)
    merged = [float(buffer.quantile(alpha=ALPHA)), history.quantile(level), sketch.quantile(level), sketch.rank_error]
    np.save(f"{out}-{rank}.npy", np.asarray(merged))
    distributed.destroy_process_group()


@pytest.mark.parametrize("seed", range(5))
def test_two_processes_have_the_quantile_of_one(tmp_path, seed):
    multiprocessing = pytest.importorskip("torch.multiprocessing")
    rng = np.random.default_rng(seed)
    scores = rng.gamma(2, size=int(rng.integers(100, 3000)))
    multiprocessing.spawn(_merge, args=(str(tmp_path / "rendezvous"), scores, str(tmp_path / "merged")), nprocs=2)
    exact, k = float(cc.conformal_quantile(scores, alpha=ALPHA)), cc.quantile_rank(len(scores), alpha=ALPHA)
    for rank in range(2):
        buffer, history, sketch, rank_error = np.load(tmp_path / f"merged-{rank}.npy")
        assert buffer == history == exact <= sketch
        assert (scores < sketch).sum() <= k - 1 + rank_error
