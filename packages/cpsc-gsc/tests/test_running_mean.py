"""The mean over the samples of a step, whatever is in which micro-batch."""

import pytest
import torch

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
