"""The mean over the samples of a step, whatever is in which micro-batch and on which process."""

import pytest
import torch

from cpsc_gsc import _running_mean
from cpsc_gsc._running_mean import RunningMean


@pytest.mark.parametrize("sizes", [(3, 1, 4), (1, 1, 1), (5, 2, 2)])
def test_a_name_that_is_missing_from_a_micro_batch_counts_as_zero_there(sizes):
    """Also where it is met first in a later one, as the parameter of a layer that some samples alone go through."""
    values = [{"always": 2.0}, {"always": 3.0, "later": 5.0}, {"later": 7.0, "last": 11.0}]
    mean = RunningMean()
    for of, samples in zip(values, sizes, strict=True):
        mean.add({name: torch.tensor(value, dtype=torch.float64) for name, value in of.items()}, samples)
    expected = {
        name: sum(of.get(name, 0.0) * n for of, n in zip(values, sizes, strict=True)) / sum(sizes)
        for name in ("always", "later", "last")
    }
    assert {name: float(value) for name, value in mean.take(None).items()} == pytest.approx(expected, rel=1e-12)
    assert not mean


def test_what_was_handed_over_is_not_changed():
    """Autograd may hand out one tensor for two parameters."""
    same, mean = torch.ones(2), RunningMean()
    mean.add({"a": same, "b": same}, 1)
    mean.add({"a": torch.zeros(2)}, 3)
    assert {name: value.tolist() for name, value in mean.take(None).items()} == {"a": [0.25] * 2, "b": [0.25] * 2}
    assert same.tolist() == [1.0, 1.0]


def test_taking_forgets_and_a_single_sample_is_something():
    mean = RunningMean()
    mean.add({"a": torch.tensor([2.0])}, 1)
    assert mean
    mean.take(None)
    assert not mean
    assert mean.take(None) == {}
    mean.add({"a": torch.tensor([6.0])}, 3)
    torch.testing.assert_close(mean.take(None), {"a": torch.tensor([6.0])})


class Processes:
    """Stands for ``torch.distributed`` with two processes; the other one holds three samples of mean 10."""

    group = object()

    def __init__(self, world):
        self.world, self.pending = world, 0

    def is_available(self):
        return True

    is_initialized = is_available

    def get_world_size(self, group):
        return self.world if group is self.group else 1

    def all_reduce(self, tensor, *, group, async_op):
        assert group is self.group
        assert async_op  # one message waits for no other
        tensor.add_(3 if tensor.ndim == 0 else 30)
        self.pending += 1
        return self

    def wait(self):
        self.pending -= 1


@pytest.mark.parametrize(("world", "expected"), [(2, 7.0), (1, 2.5)])
def test_each_sample_counts_once_over_all_processes(monkeypatch, world, expected):
    processes = Processes(world)
    monkeypatch.setattr(_running_mean, "distributed", processes)
    mean = RunningMean()
    for value in (1.0, 4.0):
        mean.add({key: torch.full((2,), value, dtype=torch.float64) for key in "ab"}, 1)
    taken = mean.take(processes.group)
    torch.testing.assert_close(taken, {key: torch.full((2,), expected, dtype=torch.float64) for key in "ab"})
    assert processes.pending == 0
    assert mean.take(processes.group) == {}
