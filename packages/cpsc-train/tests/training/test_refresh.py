"""The predictor in the loop, compared with scores recomputed from the current model."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from cpsc_train.data import Batch
from cpsc_train.training.calibration_share import Held, Streamed
from cpsc_train.training.config import ConformalConfig
from cpsc_train.training.distributed import Process
from cpsc_train.training.refresh import Refresh

ROWS, CLASSES, ALPHA = 50, 4, 0.1
ALONE = Process()
GENERATOR = torch.Generator().manual_seed(0)
SAMPLES = Batch(
    (),
    torch.randint(CLASSES, (ROWS,), generator=GENERATOR),
    {"x": torch.randn(ROWS, 3, generator=GENERATOR)},
    torch.arange(ROWS),
)


class Model:
    """A linear map that moves at every step; counts the samples it is asked for."""

    def __init__(self, scores=1):
        self.weight = torch.randn(scores, 3, CLASSES, generator=torch.Generator().manual_seed(1))
        self.scored = []

    def step(self):
        self.weight = self.weight * 1.1 + 0.03

    def __call__(self, batch, _qhat):
        self.scored.append(len(batch))
        z = torch.einsum("bd,sdc->bsc", batch.inputs["x"], self.weight)
        return {"head": z, "fused": z[:, :1]}


def quantile(model, head):
    """The k-th smallest score, k = ⌈(N+1)(1−α)⌉ in exact arithmetic, in plain Python."""
    logits = model(SAMPLES, None)[head]
    scores = [1 - float(p) for row, y in zip(logits.softmax(-1), SAMPLES.labels, strict=True) for p in row[:, y]]
    k = -((-(len(scores) + 1) * (1 - Fraction(str(ALPHA)))) // 1)
    return sorted(scores)[int(k) - 1]


def refresh(model, policy, *, process=ALONE, rows=ROWS, batch_size=16, together=0, missing=False, **options):
    """The predictor of a process on the first `rows` samples, in memory or `together` at a time."""
    config = ConformalConfig(**{"alpha": ALPHA, "refresh": policy, "slice": 7} | options)
    mine = torch.arange(rows)[process.rank :: process.world] if process.rank < rows else torch.zeros(1, dtype=int)
    samples = SAMPLES.mapped(lambda x: x[mine])
    present = {"head": np.arange(rows) % 3 < 2} if missing else {}
    division = {"process": process, "total": rows, "present": present, "most": 4 * batch_size}

    def load(order):
        return Reads(samples, order, together)

    device = torch.device("cpu")
    share = Streamed(load, together=together, device=device, **division) if together else Held(samples, **division)
    return Refresh(share, config, batch_size=batch_size, score=model)


@dataclass
class Reads:
    """A loader of some samples, which checks how many are read at once."""

    samples: Batch
    order: Iterable
    most: int

    def __iter__(self):
        for draw in self.order:
            assert 1 <= len(draw.positions) <= self.most
            yield self.samples.mapped(lambda x, draw=draw: x[draw.positions])


@pytest.mark.parametrize("scores", [1, 3])
def test_exact_is_scoring_everything_anew_after_every_step(scores):
    model = Model(scores)
    predictor = refresh(model, "exact")
    assert predictor.qhat is None
    predictor.start_epoch()
    for _ in range(5):
        for head in ("head", "fused"):
            assert float(predictor.qhat[head]) == pytest.approx(quantile(model, head), abs=1e-6)
        assert predictor.staleness == 0
        model.step()
        predictor.after_step()


def test_rolling_scores_one_slice_a_step_and_nothing_grows_older_than_a_round():
    model = Model()
    predictor = refresh(model, "rolling")
    predictor.start_epoch()
    rounds = -(-ROWS // 7)
    for step in range(1, 4 * rounds):
        model.step()
        predictor.after_step()
        assert model.scored[-1] == 7
        assert predictor.staleness <= rounds - 1
        if step >= rounds:
            assert predictor.staleness == rounds - 1
    for _ in range(rounds):  # with a model at rest the stale scores become the exact ones
        predictor.after_step()
    assert float(predictor.qhat["head"]) == pytest.approx(quantile(model, "head"), abs=1e-6)


@pytest.mark.parametrize(("policy", "times"), [("exact", 12), ("interval:4", 3), ("interval:12", 1), ("epoch", 0)])
def test_how_often_a_policy_scores(policy, times):
    model = Model()
    predictor = refresh(model, policy)
    predictor.start_epoch()
    assert model.scored == [ROWS]
    for _ in range(12):
        model.step()
        predictor.after_step()
    assert model.scored == [ROWS] * (1 + times)
    assert predictor.staleness == {"exact": 0, "interval:4": 0, "interval:12": 0, "epoch": 12}[policy]
    predictor.start_epoch()
    assert len(model.scored) == 1 + times + (policy == "epoch")


def test_a_slice_larger_than_the_calibration_set_is_all_of_it():
    model = Model()
    predictor = refresh(model, "rolling", slice=1000)
    predictor.start_epoch()
    model.step()
    predictor.after_step()
    assert predictor.staleness == 0
    assert model.scored == [ROWS, ROWS]


def test_the_slice_is_a_quarter_of_a_batch_unless_it_is_given():
    model = Model()
    predictor = refresh(model, "rolling", slice=None)
    predictor.start_epoch()
    predictor.after_step()
    assert model.scored == [ROWS, 4]


@pytest.mark.parametrize(("alpha", "exact", "released"), [(0.1, 45, 45), (0.138, 43, 44)])
def test_the_released_quantile(alpha, exact, released):
    """sorted[min(⌈N(1−α)⌉, N−1)], at times one rank above ⌈(N+1)(1−α)⌉."""
    for quantile, place in (("released", released), ("exact", exact)):
        predictor = refresh(Model(), "exact", quantile=quantile, alpha=alpha)
        predictor.start_epoch()
        scores = sorted(predictor._buffers["fused"].scores.tolist())
        assert float(predictor.qhat["fused"]) == scores[place]


POLICIES = ["exact", "rolling", "interval:2", "epoch"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("together", [0, 2])
@pytest.mark.parametrize("rows", [ROWS, 2, 1])
def test_several_processes_score_their_own_samples_and_have_the_same_quantile(job, policy, together, rows):
    options = {"missing": True, "rows": rows, "alpha": ALPHA if rows == ROWS else 0.5}
    single = Model(2)
    alone = refresh(single, policy, **options)

    def work(process):
        model = Model(2)
        return model, refresh(model, policy, process=process, batch_size=3, together=together, **options)

    predictors = job.run(work)
    for turn in range(2 * ROWS // 7):  # slices begin anew within one
        (alone.after_step if turn else alone.start_epoch)()

        def turned(process, turn=turn):
            one = predictors[process.rank][1]
            (one.after_step if turn else one.start_epoch)()

        job.run(turned)
        for model, one in predictors:
            assert one.qhat == alone.qhat
            model.step()
        single.step()
    assert len({len(model.scored) for model, _ in predictors}) == 1  # a sharded model communicates in each call
    for model, _ in predictors:
        assert sum(model.scored) <= sum(single.scored) / job.world + len(single.scored)
        assert max(model.scored) <= 12  # four batches of three


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("together", [1, 3, 1000])
def test_samples_that_are_streamed_have_the_same_quantile(policy, together):
    models = Model(), Model(), Model()
    held, streamed = (
        refresh(model, policy, together=size, missing=True) for model, size in zip(models, (0, together), strict=False)
    )
    for turn in range(2 * ROWS // 7):
        for model, one in zip(models, (held, streamed), strict=False):
            (one.after_step if turn else one.start_epoch)()
            model.step()
        assert streamed.qhat == held.qhat
        if turn == 5:
            assert streamed.quantiles(models[2]) == held.quantiles(models[2])
            resumed = refresh(models[1], policy, together=together, missing=True)
            resumed.load_state_dict(streamed.state_dict())
            streamed = resumed
    assert models[0].scored == models[1].scored


def test_callbacks_are_called_after_each_full_refresh():
    model, calls = Model(), []
    predictor = refresh(model, "interval:3")
    predictor.on_full.append(lambda: calls.append(len(model.scored)))
    predictor.start_epoch()
    for _ in range(6):
        predictor.after_step()
    assert calls == [1, 2, 3]
    rolling = refresh(model, "rolling")
    rolling.on_full.append(lambda: calls.append(0))
    rolling.start_epoch()
    rolling.after_step()
    assert calls == [1, 2, 3, 0]


def test_a_saved_predictor_resumes():
    first, model = refresh(Model(), "rolling"), Model()
    first.start_epoch()
    for _ in range(4):
        first.after_step()
    second = refresh(model, "rolling")
    second.load_state_dict(first.state_dict())
    assert second.qhat == first.qhat
    for one in (first, second):
        one.after_step()
    assert second.qhat == first.qhat
    assert second.staleness == first.staleness


def test_an_interval_resumes_where_it_was_saved():
    first, model = refresh(Model(), "interval:4"), Model()
    first.start_epoch()
    for _ in range(6):
        first.after_step()
    assert first.state_dict()["steps"] == 6
    second = refresh(model, "interval:4")
    second.load_state_dict(first.state_dict())
    second.after_step()
    assert model.scored == []
    second.after_step()
    assert model.scored == [ROWS]


def test_quantiles_of_another_model_leave_the_buffers_alone():
    model, other = Model(), Model()
    predictor = refresh(model, "rolling")
    predictor.start_epoch()
    before = dict(predictor.qhat)
    for _ in range(3):
        other.step()
    quantiles = predictor.quantiles(other)
    assert float(quantiles["head"]) == pytest.approx(quantile(other, "head"), abs=1e-6)
    assert predictor.qhat == before


def test_the_released_quantile_is_finite_however_small_alpha_is():
    predictor = refresh(Model(), "exact", quantile="released", alpha=0.001)
    predictor.start_epoch()
    assert float(predictor.qhat["fused"]) == predictor._buffers["fused"].scores.max()
