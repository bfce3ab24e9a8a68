"""State of the training loop, and resumption from it."""

import copy
from dataclasses import replace

import pytest
import torch

from cpsc_train.reporting import Observer
from cpsc_train.training import RunConfig
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer
from cpsc_train.training.record import EpochRecord
from cpsc_train.training.setup import Setup


def plain(state):
    """Return a state with lists in place of tensors."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [plain(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def test_a_saved_state_is_complete(small_config):
    """Saved inside an epoch, where dropout, an average, a schedule, a scaler and the next slice all matter."""
    table = small_config.to_plain() | {"ema": 0.9, "batch_size": 16, "schedule": {"name": "cosine"}}
    table["encoders"]["fou"]["dropout"], table["method"]["warmup"] = 0.5, 1
    runs, saved = [], {}

    def save():
        if trainer.steps == 10:  # of 7 an epoch
            saved.update(copy.deepcopy(trainer.state_dict()))

    for resumed in (False, True):
        trainer = Trainer(Setup.build(RunConfig.from_plain(table)))
        trainer.stepper.scaler = torch.amp.GradScaler("cpu", growth_interval=4)
        if resumed:
            trainer.load_state_dict(saved)
        else:
            trainer.train_epoch(Observer())
            trainer.validate()
        record = trainer.train_epoch(Observer(), save)
        runs.append((record | {"time": 0}, trainer.validate(), trainer.state_dict()))
    assert saved["position"] == 3
    (record, report, state), (again, other, rest) = runs
    assert (record, report) == (again, other)
    assert plain(state) == plain(rest)


def test_each_process_restores_its_own_random_state(small_config):
    trainer = Trainer(Setup.build(small_config))
    state = trainer.state_dict()
    torch.manual_seed(99)
    state["processes"] += trainer.state_dict()["processes"]
    trainer.setup = replace(trainer.setup, process=Process(1, 2))
    torch.manual_seed(7)
    trainer.load_state_dict(state)
    assert torch.initial_seed() == 99


def test_another_number_of_processes_continues_from_the_sums_of_all(small_config):
    """With new random states, which differ between processes."""
    saved, seeds = {}, []

    def save():
        saved.update(copy.deepcopy(trainer.state_dict()))

    trainer = Trainer(Setup.build(small_config))
    trainer.train_epoch(Observer(), save)
    saved["processes"] = saved["processes"] * 3
    records = []
    for rank in (0, 1):
        trainer.setup = replace(trainer.setup, process=Process(rank, 2))
        trainer.load_state_dict(saved)
        seeds.append(torch.initial_seed())
        records.append(trainer._record.read(Process()))
    assert len({*seeds, small_config.seed}) == 3
    first, second = records
    alone = EpochRecord()
    alone.load_state_dict(saved["processes"][0]["record"])
    for kind, means in alone.read(Process()).items():
        assert first[kind] == pytest.approx(means)
        assert set(second[kind].values()) == {0.0}
