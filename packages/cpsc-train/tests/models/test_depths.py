"""Activations of the encoders of a model."""

import pytest
import torch

from cpsc_train import packaged
from cpsc_train.data import Modality
from cpsc_train.data.modality import Spectrum
from cpsc_train.errors import UserError
from cpsc_train.models import MultimodalClassifier, depth_widths, model_taps
from cpsc_train.models.encoders import (
    EfficientNetLite0Config,
    MLPConfig,
    ResNetConfig,
    SmallCNNConfig,
    TemporalCNNConfig,
    TransformerConfig,
)

MODALITIES = {
    "audio": Modality(kind="vector", shape=(20,)),
    "image": Modality(kind="image", shape=(1, 12, 12)),
    "text": Modality(kind="text", shape=(9,), vocabulary=50),
}
ENCODERS = {"audio": MLPConfig(), "image": SmallCNNConfig(channels=4), "text": TransformerConfig(width=16, layers=4)}
WIDTHS = {"audio": (20, 8), "image": (4, 8), "text": (16, 8)}


@pytest.fixture
def model():
    return MultimodalClassifier(MODALITIES, ENCODERS, dim=8, classes=3).eval()


def batch():
    return {"audio": torch.randn(5, 20), "image": torch.randn(5, 1, 12, 12), "text": torch.randint(50, (5, 9))}


def test_features_are_those_without_taps(model):
    inputs, taps = batch(), model_taps(model)
    features, depths = model.encode_depths(inputs, taps=taps)
    for m, h in model.encode(inputs).items():
        assert torch.equal(features[m], h)
        assert torch.equal(depths[m][-1], h)
    assert {m: tuple(h.shape[1] for h in parts) for m, parts in depths.items()} == WIDTHS
    assert depth_widths(model, taps, inputs) == WIDTHS


def test_a_modality_that_is_missing_or_not_listed_has_no_depths(model):
    inputs, taps = batch(), model_taps(model)
    del inputs["image"], taps["text"]
    features, depths = model.encode_depths(inputs, taps=taps)
    assert (set(features), set(depths)) == ({"audio", "text"}, {"audio"})


def test_rows_that_lack_a_modality_do_not_change_the_others(model):
    inputs, taps = batch(), model_taps(model)
    whole, depths = model.encode_depths(inputs, taps=taps)
    inputs["image"][1] = torch.nan
    present = torch.tensor([True, False, True, True, True])
    features, partial = model.encode_depths(inputs, {"image": present}, taps)
    assert features["image"][1].tolist() == [0] * 8
    for all_rows, some in zip((whole["image"], *depths["image"]), (features["image"], *partial["image"]), strict=True):
        torch.testing.assert_close(some[present], all_rows[present])


def test_names_and_number_of_depths(model):
    taps = model_taps(model, {"image": ["2", "6"]}, count=1)
    assert {m: tap.names for m, tap in taps.items()} == {"audio": ("",), "image": ("2", "6"), "text": ("",)}
    with pytest.raises(UserError, match=r"depths of text: .*'backbone.encoder.layers'.*'backbone.encoder.layer'"):
        model_taps(model, {"text": ["backbone.encoder.layers"]})
    with pytest.raises(UserError, match="got 'video'"):
        model_taps(model, {"video": ["2"]})


def test_a_waveform_is_tapped_behind_its_spectrogram():
    waveform = Modality(kind="audio", shape=(1, 17, 13), spectrum=Spectrum(n_fft=32, hop=16))
    model = MultimodalClassifier({"audio": waveform}, {"audio": SmallCNNConfig()}, dim=8, classes=3).eval()
    inputs, taps = {"audio": torch.randn(3, 192)}, model_taps(model)
    features, depths = model.encode_depths(inputs, {"audio": torch.tensor([True, False, True])}, taps)
    spectrogram, encoder = model.encoders["audio"]
    torch.testing.assert_close(depths["audio"][0][::2], encoder[:3](spectrogram(inputs["audio"])).mean((2, 3))[::2])
    assert features["audio"][1].abs().sum() == 0
    assert depth_widths(model, taps, inputs) == {"audio": (16, 8)}


IMAGE, VIDEO = (Modality(kind="image", shape=(*frames, 3, 32, 32), bounds=(0, 1)) for frames in ((), (4,)))
DEFAULTS = {
    "efficientnet": (EfficientNetLite0Config(weights=None), IMAGE, "backbone._blocks.3", 40),
    "efficientnet, frames": (EfficientNetLite0Config(weights=None), VIDEO, "backbone._blocks.3", 40),
    "resnet": (ResNetConfig(), IMAGE, "backbone.layer1.1", 64),
    "small-cnn": (SmallCNNConfig(), IMAGE, "2", 16),
    "temporal-cnn": (TemporalCNNConfig(), Modality(kind="vector", shape=(8, 6)), "3", 64),
    "transformer": (TransformerConfig(layers=6, width=16), MODALITIES["text"], "backbone.encoder.layer.1", 16),
    "mlp": (MLPConfig(), IMAGE, "0", 3072),
}


@pytest.mark.parametrize("encoder", DEFAULTS)
def test_the_default_depths_of_every_encoder(encoder):
    config, modality, name, width = DEFAULTS[encoder]
    if isinstance(config, EfficientNetLite0Config) and packaged.find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("needs the package efficientnet-lite-pytorch")
    model = MultimodalClassifier({"m": modality}, {"m": config}, dim=8, classes=3)
    taps = model_taps(model)
    assert taps["m"].names == (name, "")
    samples = torch.ones(2, *modality.shape, dtype=torch.int64 if modality.kind == "text" else torch.float32)
    assert depth_widths(model, taps, {"m": samples}) == {"m": (width, 8)}


def test_tokens_are_averaged_without_padding(model):
    taps, text = model_taps(model), torch.randint(1, 50, (5, 9))
    text[:, 6:] = 0
    _, depths = model.encode_depths({"text": text}, taps=taps)
    torch.testing.assert_close(model.encode_depths({"text": text[:, :6]}, taps=taps)[1], depths)
