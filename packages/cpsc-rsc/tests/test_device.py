"""Nothing waits for the host: not on a device, not in a compiled graph, not by a loop over samples."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cpsc_rsc import MultimodalSelfCalibration, RepresentationSelfCalibration, diagnose, represent
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles

D, C = 12, 4
OPTIONS = [
    {},
    {"divergence": "js", "decomposition": "mlp", "reliability": "reciprocal"},
    {"residual": 1.0, "match_magnitude": False, "divergence": "kl", "recomposition": "weighted"},
]
HEADS = {
    "linear": lambda: nn.Linear(D, C),
    "batch_norm": lambda: nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Dropout(0.5), nn.Linear(D, C)),
}

aten = torch.ops.aten
# What makes the host wait for a device: a value, a truth, a size that depends on values.
SYNCS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.bincount,
}


class Watch(TorchDispatchMode):
    """Raise on what would make the host wait, and count the operations."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        moves = func.overloadpacket is aten._to_copy and kwargs.get("device") is not None
        masks = func.overloadpacket is aten.index and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func.overloadpacket in SYNCS or moves or masks:
            raise AssertionError(f"{func} makes the host wait")
        self.operations += 1
        return func(*args, **kwargs)


def step(rsc, head, batch=16):
    h, labels = torch.randn(batch, D, requires_grad=True), torch.randint(0, C, (batch,))
    with Watch() as watch:
        out = rsc(h, labels, head=head, qhat=torch.tensor(0.9), check=False)
        (out.divergence + nn.functional.cross_entropy(head(out.recomposed), labels)).backward()
        diagnose(out.reliability, out.selected)
    return watch.operations


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", OPTIONS)
def test_no_wait_for_the_host(options, head):
    step(RepresentationSelfCalibration(D, **options), HEADS[head]())


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
    ],
)
def test_the_watch_on_a_fake_accelerator_sees_a_wait(wait):
    with FakeTensorMode(), torch.device("cuda"):
        x = torch.randn(4)
        with pytest.raises((AssertionError, RuntimeError, TypeError)), Watch():
            wait(x)


def test_quantiles_of_heads_are_read_without_a_wait():
    qhat = HeadQuantiles(["audio"])
    qhat.calibrate([HeadOutputs({"audio": torch.randn(20, C)}, torch.randint(0, C, (20,)))])
    with Watch():
        assert qhat()["audio"].ndim == 0


def test_the_values_are_read_by_default_on_the_host():
    rsc, head = RepresentationSelfCalibration(D), nn.Linear(D, C)
    with pytest.raises(AssertionError, match="makes the host wait"), Watch():
        rsc(torch.randn(4, D), torch.zeros(4, dtype=torch.long), head=head, qhat=torch.tensor(0.9))


@pytest.mark.parametrize("options", OPTIONS)
def test_the_number_of_operations_does_not_depend_on_sizes(options):
    counts = {
        step(RepresentationSelfCalibration(D, components=n, top_k=k, **options), nn.Linear(D, C), batch)
        for n, k, batch in ((4, 2, 3), (40, 20, 3), (4, 2, 100))
    }
    assert len(counts) == 1


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.newer_torch
def test_a_device_is_not_waited_for_by_default(options):
    """On a fake accelerator, reading a value raises and so does mixing devices: the default policy does neither."""
    with FakeTensorMode(), torch.device("cuda"):
        rsc, head = RepresentationSelfCalibration(D, **options), HEADS["batch_norm"]()
        h, labels, qhat = torch.randn(8, D), torch.zeros(8, dtype=torch.long), torch.tensor(0.9)
        with Watch():
            out = rsc(h, labels, head=head, qhat=qhat)
            seen = diagnose(out.reliability, out.selected)
    assert {x.device.type for x in (*out, *seen)} == {"cuda"}


# array-api-compat caches its look-ups; the compiler says that it ignores the cache.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch 2.11 itself
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.newer_torch
def test_one_graph(options, head):
    rsc, head = RepresentationSelfCalibration(D, **options), HEADS[head]()
    h, labels, qhat = torch.randn(8, D), torch.randint(0, C, (8,)), torch.tensor(0.9)

    def loss(h, labels, qhat):
        out = rsc(h, labels, head=head, qhat=qhat)
        return out.divergence + nn.functional.cross_entropy(head(out.recomposed), labels), out

    torch._dynamo.reset()
    start = {name: value.clone() for name, value in head.state_dict().items()}  # statistics too
    torch.manual_seed(1)
    expected, plain = loss(h, labels, qhat)
    expected.backward()
    gradients = [p.grad.clone() for p in [*rsc.parameters(), *head.parameters()]]
    for p in [*rsc.parameters(), *head.parameters()]:
        p.grad = None
    head.load_state_dict(start)
    torch.manual_seed(1)
    got, out = torch.compile(loss, fullgraph=True, backend="aot_eager")(h, labels, qhat)
    got.backward()
    assert torch.equal(out.selected, plain.selected)
    for a, b in zip(gradients, [p.grad for p in [*rsc.parameters(), *head.parameters()]], strict=True):
        torch.testing.assert_close(a, b)
    assert head.training


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.newer_torch
def test_one_graph_serves_every_quantile():
    rsc, head = RepresentationSelfCalibration(D), nn.Linear(D, C)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(rsc, fullgraph=True, backend=counter)
    for qhat in (0.9, 0.5, torch.inf):
        h, labels = torch.randn(8, D), torch.randint(0, C, (8,))
        got = compiled(h, labels, head=head, qhat=torch.tensor(qhat))
        assert torch.equal(got.selected, rsc(h, labels, head=head, qhat=torch.tensor(qhat)).selected)
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.newer_torch
def test_several_modalities_and_inference_are_one_graph():
    dims = {"audio": D, "text": D + 1}
    rsc, heads = MultimodalSelfCalibration(dims), nn.ModuleDict({m: nn.Linear(d, C) for m, d in dims.items()})

    def both(features, labels, qhat):
        def predict(features):
            return heads["audio"](features["audio"]) + heads["text"](features["text"])

        out = rsc(features, labels, heads=heads, qhat=qhat)
        return out, represent(rsc, features, mode="collaborative", predict=predict, heads=heads, qhat=qhat)

    features, labels = {m: torch.randn(8, d) for m, d in dims.items()}, torch.randint(0, C, (8,))
    qhat = {m: torch.tensor(0.9) for m in dims}
    torch._dynamo.reset()
    got, expected = (
        torch.compile(both, fullgraph=True, backend="aot_eager")(features, labels, qhat),
        both(features, labels, qhat),
    )
    for m in dims:
        torch.testing.assert_close(got[0][m].recomposed, expected[0][m].recomposed)
        torch.testing.assert_close(got[1][m], expected[1][m])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", OPTIONS)
def test_cuda_agrees_with_the_host_without_a_wait(options):
    rsc, head = (m.double() for m in (RepresentationSelfCalibration(D, **options), nn.Linear(D, C)))
    h, labels = torch.randn(64, D, dtype=torch.float64), torch.randint(0, C, (64,))
    expected = rsc(h, labels, head=head, qhat=torch.tensor(0.9))
    rsc, head, h, labels, qhat = (x.cuda() for x in (rsc, head, h, labels, torch.tensor(0.9)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = rsc(h, labels, head=head, qhat=qhat)
        got.divergence.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(got.selected.cpu(), expected.selected)
    torch.testing.assert_close(got.recomposed.cpu(), expected.recomposed)
