from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cpsc_train.config import from_plain
from cpsc_train.errors import UserError
from cpsc_train.training import ComputeConfig, OptimizerConfig, ScheduleConfig
from cpsc_train.training.optimizer import CosineConfig, PlateauConfig, StepConfig


def learning_rates(config, accuracies, epochs=None):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = config.build(optimizer, epochs or len(accuracies))
    rates = []
    for accuracy in accuracies:
        optimizer.step()
        schedule.step(accuracy)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_step_and_cosine():
    assert learning_rates(StepConfig(every=2, factor=0.1), [0.5] * 5) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(1, 5)]
    assert learning_rates(CosineConfig(final=0.1), [0.5] * 4) == pytest.approx(expected)


def test_plateau_waits_for_validation():
    accuracies = [0.5, 0.6, 0.6, 0.6, 0.6, 0.7]
    assert learning_rates(PlateauConfig(factor=0.5, patience=1), accuracies) == [1, 1, 1, 0.5, 0.5, 0.5]


def test_a_schedule_resumes_from_its_state():
    config = PlateauConfig(factor=0.5, patience=1)
    first = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = config.build(first, 9)
    for accuracy in (0.5, 0.4):
        schedule.step(accuracy)
    second = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = config.build(second, 9)
    resumed.load_state_dict(schedule.state_dict())
    for one in (schedule, resumed):
        one.step(0.4)
    assert first.param_groups[0]["lr"] == second.param_groups[0]["lr"] == 0.5


def test_frozen_parameters_are_left_out():
    trained, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    (group,) = OptimizerConfig(kind="adamw").build([trained, frozen]).param_groups
    assert group["params"] == [trained]


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        (OptimizerConfig, {"lr": 0}, "optimizer.lr must be positive"),
        (OptimizerConfig, {"weight_decay": -1}, "weight_decay must not be negative"),
        (OptimizerConfig, {"momentum": 1}, "momentum must lie in"),
        (OptimizerConfig, {"clip_norm": 0}, "clip_norm must be positive"),
        (OptimizerConfig, {"accumulate": 0}, "accumulate must be at least 1"),
        (ScheduleConfig, {"name": "step", "every": 0}, "schedule.every must be at least 1"),
        (ScheduleConfig, {"name": "step", "factor": 1}, "schedule.factor must lie in"),
        (ScheduleConfig, {"name": "cosine", "final": 1}, "schedule.final must lie in"),
        (ScheduleConfig, {"name": "plateau", "patience": -1}, "schedule.patience must not be negative"),
        (ScheduleConfig, {"name": "cosin"}, "did you mean 'cosine'"),
        (ComputeConfig, {"threads": 0}, "compute.threads must be at least 1"),
        (ComputeConfig, {"workers": -1}, "compute.workers must not be negative"),
    ],
)
def test_bad_options_are_refused(kind, table, message):
    with pytest.raises(UserError, match=message):
        from_plain(kind, table)


def test_global_options_are_restored():
    before = (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    with ComputeConfig(threads=2, tf32=True, deterministic=True).applied():
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.are_deterministic_algorithms_enabled()
    assert before == (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_missing_device():
    with pytest.raises(UserError, match="device 'nonsense' cannot be used here"):
        ComputeConfig(device="nonsense").open_device()
