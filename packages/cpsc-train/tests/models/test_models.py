import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig, SmallCNNConfig, TemporalCNNConfig

IMAGE = Modality(kind="image", shape=(1, 16, 15))
VECTOR = Modality(kind="vector", shape=(7,))


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoders = {"a": SmallCNNConfig(channels=2), "b": MLPConfig(hidden=5, dropout=0.5)}
    return MultimodalClassifier({"a": IMAGE, "b": VECTOR}, encoders, dim=6, classes=3)


def test_shapes_and_the_fused_logits_are_the_mean(model):
    inputs = {"a": torch.randn(4, 1, 16, 15), "b": torch.randn(4, 7)}
    features = model.encode(inputs)
    assert {m: tuple(h.shape) for m, h in features.items()} == {"a": (4, 6), "b": (4, 6)}
    logits = model.classify(features)
    assert list(logits) == ["a", "b", FUSED]
    torch.testing.assert_close(logits[FUSED], (logits["a"] + logits["b"]) / 2)
    model.eval()
    torch.testing.assert_close(model(inputs)[FUSED], model.classify(model.encode(inputs))[FUSED])


def test_a_modality_keeps_its_parameters_when_another_order_is_given():
    """Initial parameters depend on the seed and the order, never on what stands in a set or a hash."""
    parameters = []
    for _ in range(2):
        torch.manual_seed(3)
        encoders = {"a": SmallCNNConfig(channels=2), "b": MLPConfig(hidden=5)}
        model = MultimodalClassifier({"a": IMAGE, "b": VECTOR}, encoders, dim=6, classes=3)
        parameters.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*parameters)


def test_the_cnn_refuses_what_is_no_image():
    for shape in ((7,), (1, 3, 8)):
        with pytest.raises(UserError, match="use mlp"):
            SmallCNNConfig().build(Modality(kind="image", shape=shape), 6)


@pytest.mark.parametrize(
    "build", [lambda: MLPConfig(hidden=0), lambda: MLPConfig(dropout=1.0), lambda: SmallCNNConfig(channels=0)]
)
def test_bad_options_are_refused(build):
    with pytest.raises(UserError, match="must"):
        build()


def test_a_temporal_cnn_reads_steps_of_features():
    encoder = TemporalCNNConfig(channels=8, window=3).build(Modality(kind="vector", shape=(17, 6)), 5)
    assert encoder(torch.randn(4, 17, 6)).shape == (4, 5)
    for make, message in (
        (lambda: TemporalCNNConfig(window=4), r"temporal-cnn\.window must be odd, got 4"),
        (lambda: TemporalCNNConfig().build(Modality(kind="vector", shape=(60,)), 5), r"reads \(time, features\)"),
    ):
        with pytest.raises(UserError, match=message):
            make()
