from __future__ import annotations

import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.resnet import ResNetConfig

resnet = pytest.importorskip("torchvision.models.resnet", reason="ResNets are torchvision's")


def image(*shape):
    return Modality(kind="image", shape=shape)


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return resnet.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(reference.state_dict(), path)
    return str(path)


def without_head(reference, x):
    found = {}
    hook = reference.avgpool.register_forward_hook(lambda module, inputs, out: found.update(out=out.flatten(1)))
    with torch.no_grad():
        reference(x)
    hook.remove()
    return found["out"]


@pytest.mark.parametrize(
    ("depth", "shape", "regions"), [(18, (3, 32, 32), 1), (34, (1, 40, 24), 2), (50, (3, 32, 32), 1)]
)
def test_shapes(depth, shape, regions):
    encoder = ResNetConfig(depth=depth, regions=regions).build(image(*shape), 7).eval()
    with torch.no_grad():
        assert encoder(torch.randn(2, *shape)).shape == (2, 7)


def test_loaded_parameters_give_the_features_of_the_model_they_come_from(reference, weights):
    encoder = ResNetConfig(weights=weights).build(image(3, 64, 64), 512).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), without_head(reference, x))


def test_safetensors_are_read_too(reference, weights, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="an extra")
    safetensors.save_file(reference.state_dict(), tmp_path / "resnet18.safetensors")
    x = torch.randn(2, 3, 32, 32)
    one, other = (
        ResNetConfig(weights=str(path)).build(image(3, 32, 32), 512).eval()
        for path in (weights, tmp_path / "resnet18.safetensors")
    )
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x))


def test_one_channel_answers_as_a_grey_image_does(reference, weights):
    grey = torch.randn(2, 1, 32, 32)
    encoder = ResNetConfig(weights=weights).build(image(1, 32, 32), 512).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(grey), without_head(reference, grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
        )


def test_frames_are_averaged(weights):
    config = ResNetConfig(weights=weights)
    still, moving = config.build(image(3, 32, 32), 512).eval(), config.build(image(4, 3, 32, 32), 512).eval()
    frames = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        expected = torch.stack([still(frames[:, i]) for i in range(4)]).mean(0)
        torch.testing.assert_close(moving(frames), expected, atol=1e-5, rtol=1e-5)


def test_regions_lie_from_left_to_right(reference, weights):
    """Two bands of a model without mixing over width beyond its own receptive field: their mean is the whole."""
    x = torch.randn(2, 3, 64, 64)
    bands = ResNetConfig(weights=weights, regions=2).build(image(3, 64, 64), 1024).eval()
    with torch.no_grad():
        torch.testing.assert_close(bands(x).reshape(2, 512, 2).mean(-1), without_head(reference, x))


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        (ResNetConfig(), (5,), "resnet reads images or frames"),
        (ResNetConfig(weights="absent.pth"), (3, 32, 32), "absent.pth: no such file of parameters"),
    ],
)
def test_what_it_cannot_read_is_refused(config, shape, said):
    with pytest.raises(UserError, match=said):
        config.build(image(*shape), 4)


def test_parameters_of_another_depth_are_refused(weights, tmp_path):
    with pytest.raises(UserError, match=r"resnet18\.pth: does not hold the parameters of ResNet34"):
        ResNetConfig(depth=34, weights=weights).build(image(3, 32, 32), 4)
    (tmp_path / "text.pth").write_text("no parameters")
    with pytest.raises(UserError, match=r"text\.pth: is not a readable file of parameters"):
        ResNetConfig(weights=str(tmp_path / "text.pth")).build(image(3, 32, 32), 4)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth: does not hold"):
        ResNetConfig(weights=str(tmp_path / "list.pth")).build(image(3, 32, 32), 4)


@pytest.mark.parametrize("options", [{"regions": 0}, {"dropout": 1.0}])
def test_bad_options(options):
    with pytest.raises(UserError, match=r"resnet\.\w+ must"):
        ResNetConfig(**options)
