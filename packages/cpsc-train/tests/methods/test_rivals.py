"""Bayesian sources of reliability against what they are defined by."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from cpsc_train import train
from cpsc_train.config import apply_settings
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.methods.cpsc.rivals import Ensemble, MonteCarloDropout, Temperature
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

RIVALS = ("temperature", "mc-dropout", "ensemble")


def config(judge, *more):
    changes = ["epochs=5", "noise=[]", f"method.name=cpsc-{judge}", "method.warmup=2", *more]
    return apply_settings(recipe("handwritten"), changes)


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
def test_the_temperature_is_that_of_the_largest_likelihood(scale):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 5, generator=generator)
    labels = torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]
    judge = Temperature()
    for _ in range(20):
        judge.calibrate(scale * z, labels)

    def likelihood(inverse):
        return float(nn.functional.cross_entropy(inverse * scale * z.double(), labels))

    best = minimize_scalar(likelihood, bounds=(0.01, 20), method="bounded").x
    assert float(judge.inverse) == pytest.approx(best, rel=1e-3)
    assert float(judge.inverse) == pytest.approx(1 / scale, rel=0.2)
    x = torch.randn(3, 5)
    torch.testing.assert_close(judge(nn.Identity(), x), x * judge.inverse)


def test_the_temperature_of_certain_logits_stays_finite():
    judge = Temperature()
    for _ in range(50):
        judge.calibrate(torch.tensor([[1e4, 0.0], [0.0, 1e4]]), torch.tensor([0, 0]))
    assert 0.05 <= float(judge.inverse) <= 20


def test_dropout_is_the_mean_over_its_masks():
    torch.manual_seed(0)
    judge, head, x = MonteCarloDropout(6, rate=0.4, draws=50), nn.Linear(6, 3), torch.randn(4, 6)
    assert set(np.unique(judge.masks.numpy()).round(4)) == {np.float32(0), np.float32(1.6667)}
    expected = sum(head(x * mask).softmax(-1) for mask in judge.masks) / 50
    torch.testing.assert_close(judge(head, x).exp(), expected)
    torch.testing.assert_close(judge(head, x), judge(head, x))


def test_heads_are_trained_with_dropout(model):
    method = MethodConfig.named("cpsc-mc-dropout")(dropout=0.4).build(model, ("a", "b"))
    inputs = {"a": torch.ones(100, 6)}
    assert (method.head_inputs(inputs)["a"] == 0).float().mean() == pytest.approx(0.4, abs=0.1)
    assert torch.equal(method.eval().head_inputs(inputs)["a"], inputs["a"])


def test_an_ensemble_learns_by_itself():
    torch.manual_seed(0)
    judge, h = Ensemble(6, 3, members=4), torch.randn(5, 6, requires_grad=True)
    expected = sum(member(h).softmax(-1) for member in judge.members) / 4
    torch.testing.assert_close(judge(nn.Identity(), h).exp(), expected)
    judge.loss(h, torch.tensor([0, 1, 2, 0, 1])).backward()
    assert h.grad is None
    assert all(p.grad is not None for p in judge.parameters())


@pytest.mark.parametrize("judge", RIVALS)
def test_each_takes_the_place_of_the_conformal_rank(judge, tmp_path):
    trainer = Trainer(Setup.build(config(judge)))
    for _ in range(3):
        record = trainer.train_epoch(Observer())
    assert record["train"]["reliability_pix"] > 0.3
    assert ("qhat" in record and bool(record["qhat"])) == (judge == "temperature")
    assert any(name.startswith("judge_") for name in record["loss"]) == (judge == "ensemble")
    results = train(config(judge), tmp_path / "run")
    assert results["test"]["clean"]["accuracy"][FUSED] > 0.8
    assert results["selected"]["epoch"] > 2  # no epoch of the warm-up may be selected


@pytest.mark.parametrize("judge", RIVALS)
def test_a_pause_in_the_middle_of_an_epoch_changes_nothing(judge):
    """The first epoch is warm-up, the third is not; both are gone on with in the middle."""
    states = []
    whole = Trainer(Setup.build(config(judge)))
    an_epoch = whole.setup.order().steps

    def note():
        if whole.steps in (an_epoch // 2, 2 * an_epoch + 5):
            states.append(deepcopy(whole.state_dict()))

    expected = [whole.train_epoch(Observer(), after_step=note)["loss"] for _ in range(3)]
    assert len(states) == 2
    for state in states:
        paused = Trainer(Setup.build(config(judge)))
        paused.load_state_dict(state)
        place = paused.epoch
        assert paused.train_epoch(Observer())["loss"] == expected[place]


@pytest.mark.parametrize(
    ("rival", "options", "message"),
    [
        ("mc-dropout", {"dropout": 1.0}, r"method\.dropout must lie in \(0, 1\), got 1.0"),
        ("mc-dropout", {"draws": 0}, r"method\.draws must be at least 1, got 0"),
        ("mc-dropout", {"top_k": 11}, r"method\.top_k must lie in 1…components = 10, got 11"),
        ("ensemble", {"experts": 0}, r"method\.experts must be at least 1, got 0"),
    ],
)
def test_bad_options(rival, options, message):
    with pytest.raises(UserError, match=message):
        MethodConfig.named(f"cpsc-{rival}")(**options)
