"""The learning rate of pretrained encoders."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch

from cpsc_train.config import from_plain
from cpsc_train.models import EncoderConfig
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.reporting import Observer
from cpsc_train.training import RunConfig, ScheduleConfig
from cpsc_train.training.loop import Trainer
from cpsc_train.training.optimizer import OptimizerConfig
from cpsc_train.training.setup import Setup

SCHEDULES = (
    {"name": "constant"},
    {"name": "step", "every": 1, "factor": 0.5},
    {"name": "cosine"},
    {"name": "cosine", "final": 0.2},
    {"name": "plateau", "factor": 0.5, "patience": 0},
)


@dataclass(frozen=True, kw_only=True)
class PretendedConfig(MLPConfig, name="pretended"):
    """A multilayer perceptron that counts as pretrained."""

    def build(self, modality, dim):
        module = super().build(modality, dim)
        module.pretrained = True
        return module


@pytest.fixture
def config(small_config, monkeypatch):
    """A configuration whose second encoder is pretrained, with a tenth of the learning rate."""
    monkeypatch.setitem(EncoderConfig.members, "pretended", PretendedConfig)
    table = small_config.to_plain()
    table["encoders"]["fou"] = {"name": "pretended", "hidden": 16}
    table["optimizer"] |= {"encoder_lr_factor": 0.1}
    table["method"] = {"name": "joint"}
    return table


def trainer(table, **changes):
    return Trainer(Setup.build(RunConfig.from_plain(table | changes)))


def test_one_group_without_a_rate_of_its_own():
    own, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    (group,) = OptimizerConfig().build([own, other, frozen], [own]).param_groups
    assert group["params"] == [own, other]
    (group,) = OptimizerConfig(encoder_lr_factor=0.1).build([other, frozen], [frozen]).param_groups
    assert group["params"] == [other]
    groups = OptimizerConfig(lr=0.5, encoder_lr_factor=0.1).build([own, other, frozen], [own, frozen]).param_groups
    assert [(g["params"], g["lr"]) for g in groups] == [([other], 0.5), ([own], 0.05)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_keep_the_ratio(schedule):
    own, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = OptimizerConfig(kind="sgd", lr=1.0, encoder_lr_factor=0.1).build([own, other], [own])
    built = from_plain(ScheduleConfig, schedule).build(optimizer, 4)
    rates = []
    for _ in range(4):
        optimizer.step()
        built.step(0.5)
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == pytest.approx(0.1 * rates[-1])
    if schedule.get("final"):
        assert rates == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(1, 5)])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_resumes(config, schedule):
    config["schedule"] = schedule
    first = trainer(config)
    first.train_epoch(Observer())
    first.validate()
    saved = copy.deepcopy(first.state_dict())
    second = trainer(config)
    second.load_state_dict(saved)
    for one in (first, second):
        one.train_epoch(Observer())
    lrs = [[group["lr"] for group in one.stepper.optimizer.param_groups] for one in (first, second)]
    assert lrs[0] == lrs[1]
    assert len(lrs[0]) == 2
    for mine, other in zip(first.objective.parameters(), second.objective.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("method", ["joint", "cpsc", "ogm-ge", "mmpareto", "pmr"])
def test_only_the_pretrained_encoder_moves_more_slowly(config, method):
    """Methods that change gradients change the same ones; the first step of SGD then differs by the factor alone."""
    moves = []
    for factor in (1.0, 0.1):
        options = {"ogm-ge": {"noise": False}, "cpsc": {"warmup": 1}}
        config["method"] = {"name": method} | options.get(method, {})
        config["optimizer"] = {"kind": "sgd", "lr": 0.1, "momentum": 0.0, "encoder_lr_factor": factor}
        one = trainer(config, batch_size=200)
        one.epoch = 1  # after the warm-up
        before = {name: p.detach().clone() for name, p in one.objective.model.named_parameters()}
        one.train_epoch(Observer())
        assert one.steps == 1
        moves.append({name: p.detach() - before[name] for name, p in one.objective.model.named_parameters()})
    for name, move in moves[0].items():
        factor = 0.1 if name.startswith("encoders.fou") else 1.0
        torch.testing.assert_close(moves[1][name], factor * move, rtol=1e-3, atol=1e-6)
    assert moves[1]["encoders.fou.1.weight"].abs().max() > 0
