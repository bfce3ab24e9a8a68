"""Quantiles of heads on batches: by hand, with missing modalities, states, schedules, and bad use."""

import copy
import io

import pytest
import torch
from torch import nn

from conformal_core import LAC, AbsoluteResidual, conformal_quantile
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles, RefreshSchedule, calibrate_heads


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({m: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)) for m in ("audio", "image")})
        self.qhat = HeadQuantiles(self.heads, alpha=0.2)

    def head_outputs(self, batch):
        inputs, labels, present = batch
        return HeadOutputs({m: head(inputs[m]) for m, head in self.heads.items()}, labels, present)


def batches(sizes=(20, 13, 7), audio_missing=()):
    made = []
    for i, n in enumerate(sizes):
        present = {"audio": torch.rand(n) > 0.3} if i in audio_missing else {}
        made.append(({m: torch.randn(n, 4) for m in ("audio", "image")}, torch.randint(3, (n,)), present))
    return made


def by_hand(model, parts, name):
    """Quantile of the scores of all rows that have the modality, from one forward pass in evaluation mode."""
    rows = [part[2].get(name, torch.ones(len(part[1]), dtype=torch.bool)) for part in parts]
    inputs = torch.cat([part[0][name][mask] for part, mask in zip(parts, rows, strict=True)])
    labels = torch.cat([part[1][mask] for part, mask in zip(parts, rows, strict=True)])
    probs = copy.deepcopy(model.heads[name]).eval()(inputs).softmax(-1).detach()
    return conformal_quantile(LAC()(probs, labels), alpha=0.2)


@pytest.mark.parametrize("audio_missing", [(), (1,), (0, 1, 2)])
def test_quantiles_are_those_of_all_batches_in_evaluation_mode(audio_missing):
    model, parts = Model(), batches(audio_missing=audio_missing)
    calibrate_heads(model, parts)
    for name, q in model.qhat().items():
        assert q.ndim == 0
        assert not q.requires_grad
        torch.testing.assert_close(q, by_hand(model, parts, name))


def test_modes_are_restored():
    model = Model()
    model.heads["image"].eval()  # such as a frozen part
    calibrate_heads(model, batches())
    assert model.training
    assert model.heads["audio"][1].training
    assert not model.heads["image"][1].training
    with pytest.raises(ValueError, match="got none"):
        calibrate_heads(model, [])
    assert model.training


def test_a_regression_score_takes_predictions_and_targets():
    qhat = HeadQuantiles(["audio"], alpha=0.5, score=AbsoluteResidual())
    qhat.calibrate([HeadOutputs({"audio": torch.zeros(3, 1)}, torch.tensor([1.0, 2.0, 3.0]))])
    assert qhat()["audio"].item() == 2


def test_a_state_keeps_the_quantiles_and_whether_there_are_any():
    model, file = Model(), io.BytesIO()
    with pytest.raises(RuntimeError, match="not computed yet"):
        model.qhat()
    blank = copy.deepcopy(model.state_dict())
    calibrate_heads(model, batches())
    torch.save(model.state_dict(), file)
    file.seek(0)
    restored = Model()
    assert not restored.qhat.calibrated
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored.qhat.calibrated
    assert restored.qhat() == model.qhat()
    restored.load_state_dict(blank)
    assert not restored.qhat.calibrated


def test_failed_calibration_changes_nothing():
    model, parts = Model(), batches()
    calibrate_heads(model, parts)
    before = {m: q.clone() for m, q in model.qhat().items()}
    parts[1][0]["image"][3] = torch.nan
    with pytest.raises(ValueError, match="must be finite, got nan"):
        calibrate_heads(model, parts)
    assert model.qhat() == before


def test_too_few_samples_give_an_infinite_quantile():
    model = Model()
    with pytest.warns(UserWarning, match="3 calibration scores are too few"):
        calibrate_heads(model, batches(sizes=(2, 1)))
    assert model.qhat.calibrated
    assert all(q == torch.inf for q in model.qhat().values())


def test_a_schedule_counts_each_optimizer_step_once():
    schedule = RefreshSchedule(every_n_steps=2, warmup_steps=1)
    accumulated = [step for step in range(6) for _ in range(3)]
    assert [step for step in accumulated if schedule.due(step)] == [1, 3, 5]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: HeadQuantiles("audio"), TypeError, r"write \['audio'\]"),
        (lambda: HeadQuantiles([]), ValueError, "at least one name"),
        (lambda: HeadQuantiles(["a"], alpha=1.5), ValueError, "alpha"),
        (lambda: HeadQuantiles(["a"]).calibrate([HeadOutputs({}, torch.zeros(1).long())]), ValueError, r"\['a'\]"),
        (lambda: calibrate_heads(nn.Linear(1, 1), []), TypeError, "must be a HeadQuantiles, got NoneType"),
        (lambda: RefreshSchedule(every_n_steps=0), ValueError, "every_n_steps must be at least 1"),
        (lambda: RefreshSchedule(every_n_steps=1, warmup_steps=1.5), TypeError, "warmup_steps must be an integer"),
    ],
)
def test_bad_use(use, error, message):
    with pytest.raises(error, match=message):
        use()
