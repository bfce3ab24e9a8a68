"""Which calibration samples a process reads, how many at once, and that training does not depend on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.config import apply_settings
from cpsc_train.data.families.arrays import Arrays
from cpsc_train.reporting import Observer
from cpsc_train.training.calibration_share import Held, Streamed, calibration_share
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup


@given(st.data())
def test_each_sample_of_a_slice_is_read_by_its_owner(data):
    total, world, most = (data.draw(st.integers(1, high)) for high in (40, 5, 9))
    first, count = data.draw(st.integers(0, total - 1)), data.draw(st.integers(1, total))
    expected = [row % total for row in range(first, first + count)]
    sizes = set()
    for rank in range(world):
        rows = np.arange(total)[rank::world]
        options = {"process": Process(rank, world), "total": total, "most": most}
        share = Streamed(lambda order: (), together=1, device=torch.device("cpu"), **options)
        portions = share.portions(first, count)
        places = [place % max(1, len(rows)) for portion in portions for place in portion]
        own = [row for row in expected if row % world == rank]
        assert [rows[place] for place in places[: len(own)]] == own
        assert max(map(len, portions)) <= most
        sizes.add(len(portions))
    assert len(sizes) == 1


def settings(config, policy, memory=0, *more):
    changes = [f"conformal.refresh={policy}", f"conformal.memory_mib={memory}", *more]
    return apply_settings(replace(config, epochs=3), changes)


def record(trainer):
    """Everything that three epochs report but times."""
    epochs = [trainer.train_epoch(Observer()) | {"time": 0, "validation": trainer.validate()} for _ in range(3)]
    return epochs, {name: x.clone() for name, x in trainer.objective.state_dict().items() if torch.is_tensor(x)}


@pytest.mark.parametrize(
    "changes",
    [
        ("rolling", "conformal.slice=7", "ema=0.5"),
        ("exact", "missing.share={fou=0.5,pix=0.3}"),
        ("interval:2", "encoders.fou.dropout=0.5", "compute.workers=1"),
        ("epoch",),
    ],
)
def test_training_is_the_same_to_the_last_bit_if_samples_are_streamed(small_config, changes):
    policy, *more = changes
    outcomes = []
    for memory, kind in ((1024, Held), (0, Streamed)):
        trainer = Trainer(Setup.build(settings(small_config, policy, memory, *more)))
        assert isinstance(trainer.refresh._samples, kind)
        outcomes.append((*record(trainer), torch.get_rng_state()))
    (held, parameters, random), (streamed, others, state) = outcomes
    assert held == streamed
    assert torch.equal(random, state)
    for name, value in parameters.items():
        assert torch.equal(value, others[name])


@pytest.mark.parametrize("memory", [0, 1024])
def test_a_process_reads_its_own_samples_alone(small_config, monkeypatch, memory):
    setup = Setup.build(settings(small_config, "epoch", memory))
    setup.process = Process(rank=1, world=3)
    rows, read = setup.splits.calibration, []
    original = Arrays.read
    monkeypatch.setattr(Arrays, "read", lambda self, m, r: (read.append(r.tolist()), original(self, m, r))[1])
    share = calibration_share(setup)
    if memory == 0:
        assert sum(map(len, read)) == len(setup.dataset.modalities)  # one sample tells the size of all
    for _ in range(2):
        batches = list(share.read(0, len(rows)))
        assert sum(map(len, batches)) == len(rows[1::3])
    assert {row for places in read for row in places} == set(rows[1::3].tolist())
    assert max(map(len, read)) <= -(-setup.config.batch_size // 3)
    passes = sum(map(len, read)) / len(rows[1::3]) / len(setup.dataset.modalities)
    assert passes == pytest.approx(2 if memory == 0 else 1, abs=0.2)


def test_memory_does_not_grow_with_the_processes(small_config):
    setup = Setup.build(replace(small_config, batch_size=8))
    setup.process = Process(rank=0, world=4)
    assert {len(batch) for batch in setup.batches("test")} == {2}
    assert max(map(len, calibration_share(setup).read(0, len(setup.splits.calibration)))) == 8
