"""Activations of an encoder at several depths, against activations computed step by step."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from cpsc_rsc import TappedEncoder, Taps

B = 4


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 6)
    ).eval()


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(x + self.layer(x).relu())


class Tokens(nn.Module):
    """Layers that return tuples, after an embedding."""

    def __init__(self, layers=8):
        super().__init__()
        self.embedding = nn.Embedding(20, 6, padding_idx=0)
        self.layers = nn.ModuleList([Block(6) for _ in range(layers)])

    def forward(self, x):
        h = self.embedding(x)
        for layer in self.layers:
            h = layer(h)
        return {"hidden": (h, None), "first": h[:, 0]}


class Masked(Tokens):
    def token_mask(self, x):
        return x != 0


def test_pooled_activations_are_those_of_the_layers():
    encoder, x = cnn(), torch.randn(B, 3, 6, 6)
    features, depths = Taps(encoder, ["input", "2", "4", "6", ""])(encoder, x)
    assert torch.equal(features, encoder(x))
    expected = [x.mean((2, 3)), encoder[:3](x).mean((2, 3)), encoder[:5](x).mean((2, 3)), features, features]
    for depth, mean in zip(depths, expected, strict=True):
        torch.testing.assert_close(depth, mean)


def test_video_is_averaged_over_frames_and_pixels():
    encoder, x = nn.Sequential(nn.Conv3d(3, 5, 1), nn.ReLU(), nn.Flatten()), torch.randn(B, 3, 2, 4, 4)
    _, (depth,) = Taps(encoder, ["1"])(encoder, x)
    torch.testing.assert_close(depth, encoder[:2](x).mean((2, 3, 4)))


def test_frames_in_the_batch_are_averaged_for_each_sample():
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return self.conv(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2]).mean(1)

    encoder, x = Frames(), torch.randn(B, 7, 3, 4, 4)
    features, (depth,) = Taps(encoder, ["conv"])(encoder, x)
    torch.testing.assert_close(depth, features)


def test_series_are_averaged_over_time_in_both_layouts():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv1d(3, 5, 1), nn.ReLU())
            self.mixer = nn.Linear(5, 4)

        def forward(self, x):
            return self.mixer(self.stem(x).transpose(1, 2))

    encoder, x = Mixed(), torch.randn(B, 3, 9)
    features, depths = Taps(encoder, ["stem.0", "stem.1", "stem", "mixer", ""])(encoder, x)
    conv = encoder.stem[0](x)
    expected = [conv.mean(2), conv.relu().mean(2), conv.relu().mean(2), features.mean(1), features.mean(1)]
    for depth, mean in zip(depths, expected, strict=True):
        torch.testing.assert_close(depth, mean)


def test_padding_is_left_out_if_the_encoder_names_it():
    torch.manual_seed(1)
    plain, masked = Tokens(), Masked()
    masked.load_state_dict(plain.state_dict())
    x = torch.tensor([[3, 4, 5, 0, 0], [1, 2, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
    names, hidden = ["embedding", "layers.7", ""], plain(x)["hidden"][0]
    _, everywhere = Taps(plain, names)(plain, x)
    _, kept = Taps(masked, names)(masked, x)
    torch.testing.assert_close(everywhere[1], hidden.mean(1))
    for row, length in enumerate([3, 2, 0, 5]):
        mean = hidden[row, :length].mean(0) if length else torch.zeros(6)
        torch.testing.assert_close(kept[1][row], mean)
        torch.testing.assert_close(kept[2][row], mean)
    longer = torch.cat([x, torch.zeros(4, 30, dtype=torch.int64)], 1)
    for short, long in zip(kept, Taps(masked, names)(masked, longer)[1], strict=True):
        torch.testing.assert_close(long, short)


def test_padding_that_is_not_finite_stays_out():
    class Broken(Masked):
        def forward(self, x):
            return self.embedding(x).masked_fill((x == 0)[..., None], torch.nan)

    encoder = Broken()
    _, (depth,) = Taps(encoder, [""])(encoder, torch.tensor([[3, 4, 0]]))
    assert depth.isfinite().all()


def test_of_a_module_called_more_than_once_the_first_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(self.layer(x))

    encoder, x = Twice(), torch.randn(B, 5)
    _, (depth,) = Taps(encoder, ["layer"])(encoder, x)
    assert torch.equal(depth, encoder.layer(x))


def test_nothing_stays_on_the_encoder():
    encoder = cnn()
    keys, taps = list(encoder.state_dict()), Taps(encoder)
    taps(encoder, torch.randn(B, 3, 6, 6))
    with pytest.raises(RuntimeError):
        taps(encoder, torch.randn(B, 2, 6, 6))
    assert not any(module._forward_hooks for module in encoder.modules())
    assert list(encoder.state_dict()) == keys


@pytest.mark.parametrize("tap", [lambda encoder: lambda x: Taps(encoder)(encoder, x), TappedEncoder])
def test_no_activation_outlives_its_result(tap):
    encoder = cnn()
    tapped = tap(encoder)
    _, depths = tapped(torch.randn(B, 3, 6, 6))
    activation = weakref.ref(depths[0])
    del depths, _
    gc.collect()
    assert activation() is None


def test_gradients_pass_and_grad_mode_is_kept():
    encoder, x = cnn(), torch.randn(B, 3, 6, 6)
    taps = Taps(encoder, ["2"])
    taps(encoder, x)[1][0].sum().backward()
    assert encoder[0].weight.grad.abs().sum() > 0
    with torch.inference_mode():
        assert not taps(encoder, x)[1][0].requires_grad


def test_widths_leave_the_modes_and_the_statistics():
    encoder = cnn().train()
    encoder[3].eval()
    before = copy.deepcopy(encoder.state_dict())
    assert Taps(encoder, ["input", "2", ""]).widths(encoder, torch.randn(1, 3, 6, 6)) == (3, 5, 6)
    assert [module.training for module in encoder] == [True, True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3), nn.Linear(7, 6)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))


class Owned(Functional):
    tap_names = ("second",)


TEXT = torch.ones(2, 3, dtype=torch.int64)
RESIDUAL = nn.Sequential(nn.Linear(9, 6), *[Block(6) for _ in range(8)])


@pytest.mark.parametrize(
    ("encoder", "names"),
    [
        (cnn(), {1: [""], 2: ["2", ""], 9: ["2", ""]}),
        (Tokens(), {2: ["layers.1", ""], 3: ["layers.1", "layers.2", ""], 5: [*(f"layers.{i}" for i in range(4)), ""]}),
        (RESIDUAL, {2: ["2", ""]}),
        (nn.Sequential(nn.Dropout(), nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1), nn.ReLU()), {2: ["2", ""]}),
        (nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()), {1: [""], 2: ["input", ""]}),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()), {3: ["0", "2", ""]}),
        (nn.Linear(9, 6), {4: ["input", ""]}),
        (Functional(), {2: ["second", ""]}),
        (Owned(), {2: ["second"]}),
    ],
    ids=["cnn", "tokens", "residual", "series", "vectors", "flat", "linear", "functional", "own"],
)
def test_default_depths_are_early_and_the_output(encoder, names):
    for count, expected in names.items():
        assert list(Taps(encoder, count=count).names) == expected


def test_the_default_depth_of_an_image_encoder_shows_noise():
    encoder, x = cnn(), torch.randn(200, 3, 6, 6) * 0.1
    taps = Taps(encoder)
    clean, noisy = (taps(encoder, batch)[1][0] for batch in (x, x + torch.randn_like(x)))
    assert ((noisy.mean(0) - clean.mean(0)) / clean.std(0)).max() > 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Taps("cnn"), TypeError, "module must be a torch module, got str"),
        (lambda: Taps(Tokens(), "layers.1"), TypeError, r"got 'layers.1': write \['layers.1'\]"),
        (lambda: Taps(Tokens(), ["layer.1"]), ValueError, "got 'layer.1': did you mean 'layers.1'?"),
        (lambda: Taps(Tokens(), ["zzzz"]), ValueError, r"got 'zzzz': see its named_modules\(\)"),
        (lambda: Taps(Tokens(), ["", ""]), ValueError, "different names"),
        (lambda: Taps(Tokens(), []), ValueError, "one or more"),
        (lambda: Taps(Tokens(), count=0), ValueError, "count must"),
        (
            lambda: Taps(Tokens(), ["layers.7"])(Tokens(2), torch.ones(2, 3, dtype=torch.int64)),
            ValueError,
            "'layers.7'",
        ),
        (lambda: Taps(Tokens(), ["layers"])(Tokens(), torch.ones(2, 3, dtype=torch.int64)), ValueError, "calls"),
        (lambda: Taps(m := nn.Flatten(0), [""])(m, torch.ones(2, 3)), ValueError, r"must have shape \(2, ...\)"),
        (lambda: Taps(m := nn.Module(), ["x"])(m, torch.ones(2, 3)), ValueError, "got 'x'"),
        (lambda: Taps(m := Nothing(), [""])(m, torch.ones(2, 3)), TypeError, "must hold a tensor, got NoneType"),
    ],
)
def test_bad_use_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Nothing(nn.Module):
    def forward(self, x):
        return None


def test_a_submodule_called_input_is_not_the_raw_input():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input = nn.Linear(5, 2)

        def forward(self, x):
            return self.input(x)

    encoder, x = Net(), torch.randn(B, 5)
    features, (depth,) = Taps(encoder, ["input"])(encoder, x)
    assert torch.equal(depth, features)
