import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.training.meter import Meter


def test_means_are_over_samples_and_not_over_batches():
    meter = Meter()
    meter.add({"a": torch.tensor(1.0)}, 3)
    meter.add({"a": torch.tensor(5.0)}, 1)
    assert meter.read() == {"a": 2.0}


def test_nothing_seen_is_nothing_read():
    assert Meter().read() == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_figure_is_found_at_any_later_time(bad):
    meter = Meter()
    for value in (1.0, bad, 2.0):
        meter.add({"div_fou": torch.tensor(value), "ce_fused": torch.tensor(0.5)}, 4)
    with pytest.raises(UserError, match=r"step 3: loss div_fou is not finite.*method\.divergence=js"):
        meter.check_finite("step 3")


def test_gradients_are_not_kept():
    meter = Meter()
    x = torch.tensor(1.0, requires_grad=True)
    meter.add({"a": x * 2}, 1)
    assert not any(total.requires_grad for total in meter._sums.values())
