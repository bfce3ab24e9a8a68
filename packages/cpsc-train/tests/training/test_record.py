import numpy as np
import torch

from cpsc_train.methods import StepLosses
from cpsc_train.training.distributed import Process
from cpsc_train.training.record import Distribution, EpochRecord, Meter, Spread

ALONE = Process()


def test_means_are_over_samples_and_not_over_batches():
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 3)
    meter.add({"a": torch.tensor(5.0), "b": torch.tensor(2.0)}, 1)
    assert meter.read(ALONE) == {"a": 2.0, "b": 2.0}


def test_an_empty_record():
    assert Meter().read(ALONE) == {}
    assert Distribution().read(ALONE) == Spread(0.0, 0.0, 0.0, 0.0)


def test_gradients_are_not_kept():
    meter = Meter()
    x = torch.tensor(1.0, requires_grad=True)
    meter.add({"a": x * 2}, 1)
    assert not meter.state_dict()["_sums"].requires_grad


def test_the_spread_of_values():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(7, 3, generator=generator) for _ in range(55)]
    batches[3][0, 0], batches[4][0, 0] = 0.0, 1.0
    distribution = Distribution()
    for batch in batches:
        distribution.add(batch)
    everything = torch.cat(batches).double().numpy()
    spread = distribution.read(ALONE)
    ends = (everything == 1).mean(), (everything == 0).mean()
    np.testing.assert_allclose(spread, [everything.mean(), everything.std(), *ends])
    assert min(ends) > 0


def test_a_record_resumes_from_its_state():
    def batch(seed):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(6, 3, generator=generator)
        rho = torch.rand(6, generator=generator)
        return StepLosses({"ce": logits.mean()}, {"fused": logits}, distributions={"reliability": {"fou": rho}})

    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    straight, half = EpochRecord(), EpochRecord()
    for seed in range(4):
        straight.add(batch(seed), labels)
        straight.trace(seed, {"fused": torch.tensor(0.1 * seed)})
        if seed < 2:
            half.add(batch(seed), labels)
            half.trace(seed, {"fused": torch.tensor(0.1 * seed)})
    other = EpochRecord()
    other.load_state_dict(half.state_dict())
    for seed in (2, 3):
        other.add(batch(seed), labels)
        other.trace(seed, {"fused": torch.tensor(0.1 * seed)})
    assert other.read(ALONE) == straight.read(ALONE)
    assert set(straight.read(ALONE)["train"]) == {"accuracy_fused", "reliability_fou"}
    assert set(straight.read(ALONE)["spread"]["reliability"]["fou"]) == {"mean", "sd", "at_one", "at_zero"}
    assert straight.read(ALONE)["trace"]["step"] == [0, 1, 2, 3]
