"""Features of frozen encoders in one file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cpsc_train.config import apply_settings
from cpsc_train.data import Noise
from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.errors import UserError
from cpsc_train.experiments import features
from cpsc_train.experiments.features import extract_features
from cpsc_train.recipes import recipe
from cpsc_train.training.setup import Setup

pytest.importorskip("torchvision", reason="ResNets are torchvision's")
pytest.importorskip("transformers", reason="text is read by transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SETTINGS = (
    *("data.size=32", "data.tokens=8", "encoders.image.depth=18", "encoders.image.regions=1"),
    *("encoders.text.width=16", "splits.calibration=6", "compute.workers=0"),
)
WORDS = "text@words-0.5"


@pytest.fixture(scope="module")
def root(layouts, tmp_path_factory):
    return layouts.mvsa_single(tmp_path_factory.mktemp("mvsa"))


@pytest.fixture
def config(root):
    return apply_settings(recipe("mvsa-single"), [f"data.root={root}", *SETTINGS])


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_features_are_those_of_the_encoders(config, tmp_path):
    extracted = extract_features(config, tmp_path / "f.npz", noise=("text:words:0.5",), parts=("validation", "test"))
    assert extracted.written == ["image", "text", WORDS]
    found = arrays(tmp_path / "f.npz")
    assert {name: array.shape for name, array in found.items() if array.ndim > 1} == {
        "image": (36, 512),
        "text": (36, 16),
        WORDS: (36, 16),
    }
    setup = Setup.build(config)
    model = setup.objective.model.eval()
    for name, noise in (("text", ()), (WORDS, (Noise(modality="text", kind="words", severity=0.5),))):
        (batch,) = setup.batches("test", noise)
        with torch.no_grad():
            expected = model.encoders["text"].pooled(batch.inputs["text"]).numpy()
        np.testing.assert_allclose(found[name][setup.splits.test], expected, rtol=2e-3, atol=2e-3)
    rows = setup.dataset.parts
    assert np.isnan(found[WORDS][rows["train"]]).all()
    assert not np.isnan(found[WORDS][rows["validation"]]).any()


def test_depths_come_before_the_pooled_features(config, tmp_path):
    """The same as hidden states, and as a forward pass of the first layers, row by row and without padding."""
    plain, deep = tmp_path / "plain.npz", tmp_path / "deep.npz"
    extract_features(config, plain)
    depths = ("image:backbone.layer1,backbone.layer3", "text:backbone.embeddings,backbone.encoder.layer.0")
    extract_features(config, deep, noise=("text:words:0.5",), depths=depths)
    found = arrays(deep)
    widths = {name: tuple(found[f"widths/{name}"].tolist()) for name in ("image", "text")}
    assert widths == {"image": (64, 256, 512), "text": (16, 16, 16)}
    for name, pooled in arrays(plain).items():
        if name in widths:
            np.testing.assert_array_equal(found[name][:, -widths[name][-1] :], pooled)
    setup = Setup.build(config)
    encoders = setup.objective.model.eval().encoders
    (batch,) = setup.batches("test")
    rows = setup.splits.test
    with torch.no_grad():
        for row, tokens in zip(rows, batch.inputs["text"], strict=True):
            hidden = encoders["text"].backbone(tokens[tokens != 0][None], output_hidden_states=True).hidden_states
            expected = torch.cat([hidden[0][0].mean(0), hidden[1][0].mean(0)])
            np.testing.assert_allclose(found["text"][row, :32], expected.numpy(), rtol=2e-3, atol=2e-3)
        net = encoders["image"].backbone
        first = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(batch.inputs["image"])))))
        np.testing.assert_allclose(found["image"][rows, :64], first.mean((2, 3)).numpy(), rtol=2e-3, atol=2e-3)
    dataset = ArraysConfig(root=str(deep)).open()
    assert {name: modality.depths for name, modality in dataset.modalities.items()} == widths
    assert found[WORDS].shape == (36, 48)
    assert not np.array_equal(found[WORDS][:, :16], found["text"][:, :16])


def test_depths_that_do_not_fit_are_refused(config, tmp_path):
    out = tmp_path / "f.npz"
    for depths, said in (
        ("image", "--depths must be a number, or names"),
        ("0", "--depths must be a number, or names"),
        ("image:backbone.layer1,", "--depths must be a number, or names"),
        ("sound:layer1", "--depths: .*sound"),
        ("image:backbone.layr1", r"--depths image: names must be .*'backbone\.layr1': did you mean 'backbone\.layer1'"),
    ):
        with pytest.raises(UserError, match=said):
            extract_features(config, out, depths=(depths,))
    assert not out.exists()
    extract_features(config, out)
    with pytest.raises(UserError, match="features of another configuration: choose another --out"):
        extract_features(config, out, depths=("image:backbone.layer1",))


def test_the_array_data_set_reads_the_file(config, tmp_path):
    extract_features(config, tmp_path / "f.npz", noise=("text:words:0.5",), parts=("test",))
    source, dataset = config.data.open(), ArraysConfig(root=str(tmp_path / "f.npz")).open()
    assert list(dataset.modalities) == ["image", "text"]
    assert list(dataset.ids) == list(source.ids)
    assert [dataset.classes[i] for i in dataset.labels] == [source.classes[i] for i in source.labels]
    assert {part: rows.tolist() for part, rows in dataset.parts.items()} == {
        part: rows.tolist() for part, rows in source.parts.items()
    }
    noise = Noise(modality="text", kind="words", severity=0.5)
    assert dataset.corrupted("text", noise, dataset.parts["test"]).shape == (6, 16)
    with pytest.raises(UserError, match="was not extracted"):
        dataset.corrupted("text", noise, dataset.parts["train"])


def test_another_call_adds_to_the_file(config, tmp_path, monkeypatch):
    """An interrupted extraction keeps the arrays that were complete, and goes on."""
    out, noise = tmp_path / "f.npz", ("text:words:0.5", "image:gaussian:0.2")
    whole = tmp_path / "whole.npz"
    extract_features(config, whole, noise=noise)
    original = features._features

    def interrupted(setup, pooled, modality, one, rows):
        if one is not None and one.kind == "gaussian":
            raise KeyboardInterrupt
        return original(setup, pooled, modality, one, rows)

    with monkeypatch.context() as patched:
        patched.setattr(features, "_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract_features(config, out, noise=noise, parts=("test",))
    assert WORDS in arrays(out)
    extracted = extract_features(config, out, noise=noise, parts=("test",))
    assert (extracted.written, extracted.complete) == (["image@gaussian-0.2"], ["image", "text", WORDS])
    assert extract_features(config, out, noise=noise, parts=("train", "validation")).written == [
        WORDS,
        "image@gaussian-0.2",
    ]
    for name, array in arrays(whole).items():
        if array.dtype == np.float16:  # batches of other rows round otherwise
            np.testing.assert_allclose(arrays(out)[name], array, rtol=1e-2, atol=1e-2)


def test_what_does_not_fit_is_refused(config, tmp_path):
    out = tmp_path / "f.npz"
    for options, said in (
        (
            {"parts": ("validatio",)},
            r"must be official parts of the data set \(train, validation, test\), got 'validatio'",
        ),
        ({"noise": ("qmf:GS@5",)}, "must corrupt all samples of one modality"),
        ({"noise": ("text:blur@1",)}, "is for image"),
    ):
        with pytest.raises(UserError, match=said):
            extract_features(config, out, **options)
    assert not out.exists()
    extract_features(config, out)
    with pytest.raises(UserError, match="features of another configuration: choose another --out"):
        extract_features(apply_settings(config, ["data.size=40"]), out)
    np.savez(tmp_path / "own.npz", a=np.ones(3))
    with pytest.raises(UserError, match="holds other arrays"):
        extract_features(config, tmp_path / "own.npz")
    with pytest.raises(UserError, match=r"encoders\.pix: has no pooled features to extract: use efficientnet-lite0"):
        extract_features(recipe("handwritten"), out)


def test_the_command(root, cpsc, tmp_path):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    common = ["data", "features", "--recipe", "mvsa-single", "--root", root, "--out", tmp_path / "f.npz", *options]
    outcome = cpsc(*common, "--noise", "text:words@3", "--parts", "validation,test")
    assert outcome.code == 0, outcome.err
    assert f"written: image, text, {WORDS}" in outcome.out
    assert "already complete: image, text" in cpsc(*common).out
    outcome = cpsc("data", "features", "--recipe", "mvsa-single")
    assert (outcome.code, "needs --recipe and --out" in outcome.err) == (2, True)
    run = cpsc(
        *("train", "--recipe", "arrays", "--root", tmp_path / "f.npz", "--epochs", 2, "--out", tmp_path / "run", "-q"),
        *("--method", "joint", "--set", "splits.calibration=9"),
    )
    assert run.code == 0, run.err
