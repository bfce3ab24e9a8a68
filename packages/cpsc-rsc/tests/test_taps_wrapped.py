"""Activations of compiled, exported, distributed and half-precision encoders: those of the plain encoder."""

import copy
import io

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cpsc_rsc import TappedEncoder, Taps

NAMES = ["input", "1.0", "2", ""]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU())

    def token_mask(self, x):
        return x != 0

    def forward(self, x):
        return self.layer(self.embedding(x))[:, 0]


class Frames(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return self.conv(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2]).mean(1)


def cnn():
    block = nn.Sequential(nn.Conv2d(5, 7, 3), nn.ReLU())
    return nn.Sequential(nn.Conv2d(3, 5, 3), block, nn.ReLU(), nn.Flatten(), nn.Linear(28, 6)).eval()


def images(samples=3):
    return torch.randn(samples, 3, 6, 6)


CASES = {
    "images": (cnn, images, NAMES),
    "tokens": (Tokens, lambda samples=3: torch.randint(20, (samples, 5)), ["embedding", "layer", ""]),
    "frames": (Frames, lambda samples=3: torch.randn(samples, 2, 3, 6, 6), ["conv", ""]),
}


def check(actual, expected, **tolerance):
    for got, wanted in zip((actual[0], *actual[1]), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(got, wanted, **tolerance)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.newer_torch
@pytest.mark.parametrize("case", ["images", "tokens"])
def test_a_tapped_encoder_compiles_to_one_graph(case, fresh_compiler):
    build, batch, names = CASES[case]
    encoder = build()
    compiled = torch.compile(TappedEncoder(encoder, names), backend="eager", fullgraph=True)
    for samples in (3, 3, 5):
        x = batch(samples)
        check(compiled(x), Taps(encoder, names)(encoder, x))


def test_a_compiled_call(fresh_compiler):
    encoder = cnn()
    taps = Taps(encoder, NAMES)
    compiled = torch.compile(lambda x: taps(encoder, x), backend="eager")
    for _ in range(3):
        x = images()
        check(compiled(x), taps(encoder, x))
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize("first", ["encoder", "taps"])
def test_a_compiled_encoder_is_tapped_before_and_after_its_own_calls(first, fresh_compiler):
    encoder = cnn()
    compiled, taps, x = torch.compile(encoder, backend="eager"), Taps(encoder, NAMES), images()
    for call in ("encoder", "taps") if first == "encoder" else ("taps", "encoder", "taps"):
        if call == "encoder":
            torch.testing.assert_close(compiled(x), encoder(x))
        else:
            check(taps(compiled, x), taps(encoder, x))


def test_an_encoder_that_was_compiled_in_place_is_tapped(fresh_compiler):
    encoder, x = cnn(), images()
    expected = Taps(encoder, NAMES)(encoder, x)
    encoder.compile(backend="eager")
    encoder[1].compile(backend="eager")
    encoder(x)
    check(Taps(encoder, NAMES)(encoder, x), expected)


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")
@pytest.mark.parametrize(("case", "strict"), [*((case, False) for case in CASES), ("tokens", True)])
def test_a_tapped_encoder_is_exported_for_any_batch(case, strict):
    build, batch, names = CASES[case]
    tapped = TappedEncoder(build(), names)
    shapes = {"x": {0: torch.export.Dim("B", max=64)}}
    exported = torch.export.export(tapped, (batch(),), dynamic_shapes=shapes, strict=strict).module()
    for samples in (3, 5):
        x = batch(samples)
        check(exported(x), tapped(x))


def test_a_tapped_encoder_is_copied_and_saved():
    tapped, x = TappedEncoder(cnn(), NAMES), images()
    expected = tapped(x)
    torch.save(tapped, buffer := io.BytesIO())
    buffer.seek(0)
    for other in (copy.deepcopy(tapped), torch.load(buffer, weights_only=False)):
        nn.init.zeros_(tapped.encoder[0].weight)
        check(other(x), expected)
    assert all(name.startswith("encoder.") for name in tapped.state_dict())
    assert torch.equal(tapped.encoder(x), tapped(x)[0])


def test_a_distributed_encoder_has_names_with_and_without_the_wrapper():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        encoder, x = cnn(), images()
        distributed = DistributedDataParallel(encoder)
        expected = Taps(encoder, NAMES)(encoder, x)
        for taps in (Taps(encoder, NAMES), Taps(distributed, ["input", "module.1.0", "module.2", ""])):
            check(taps(distributed, x), expected)
            check(taps(encoder, x), expected)
        assert Taps(distributed).names == Taps(encoder).names
    finally:
        dist.destroy_process_group()


def test_autocast_pools_in_single_precision():
    encoder, x = cnn(), images()
    taps = Taps(encoder, NAMES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, depths = taps(encoder, x)
        block = encoder[1](encoder[0](x))
    assert features.dtype == block.dtype == torch.bfloat16
    assert {depth.dtype for depth in depths} == {torch.float32}
    torch.testing.assert_close(depths[2], block.float().mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_other_precisions(case, dtype):
    build, batch, names = CASES[case]
    encoder, x = build().to(dtype), batch()
    x = x.to(dtype) if x.is_floating_point() else x
    _, depths = Taps(encoder, names)(encoder, x)
    assert {depth.dtype for depth in depths} == {torch.promote_types(dtype, torch.float32)}
    reference = copy.deepcopy(encoder).double()
    _, exact = Taps(reference, names)(reference, x.double() if x.is_floating_point() else x)
    for depth, wanted in zip(depths, exact, strict=True):
        torch.testing.assert_close(depth.double(), wanted, rtol=0.05, atol=0.05)


def test_nothing_waits_for_a_device():
    """Meta tensors have no values, so an operation that reads one fails."""
    for build, batch, names in CASES.values():
        with torch.device("meta"):
            encoder, x = build(), batch()
        _, depths = Taps(encoder, names)(encoder, x)
        assert all(depth.is_meta for depth in depths)
