"""Calibrated trust as an inference variant: rows it uses, its state, missing modalities, and its prediction sets."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from cpsc_rsc import ConformalTrust
from cpsc_train import evaluate, export, train
from cpsc_train.data import Modality
from cpsc_train.data.dataset import Dataset
from cpsc_train.inference import Trained, parse_inference
from cpsc_train.inference.generic import corrupted_copies, kinds_of
from cpsc_train.methods import MethodConfig, PartFeatures
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.recipes import recipe

SHAPES = {"image": (3, 8, 8), "vector": (5,), "text": (7,)}


class Kinds(Dataset):
    def __init__(self, *kinds):
        self.modalities = {kind: Modality(kind=kind, shape=SHAPES[kind]) for kind in kinds}

    def read(self, modality, rows):
        raise NotImplementedError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = replace(recipe("handwritten"), epochs=6, inference=("trust",), noise=())
    return folder, train(config, folder)


def test_generic_copies():
    copies = corrupted_copies(Kinds("image", "text"))
    assert kinds_of(copies) == ["image:gaussian", "text:words"]
    modalities = [[noise.modality for noise in copy] for copy in copies]
    assert modalities == [["image"]] * 4 + [["text"]] * 3 + [["image", "text"]] * 2
    severities = [copy[0].severity for copy in copies[:4]]
    assert severities == [0.5, 1.5, 3, 6]
    assert [noise.severity for noise in copies[-2]] == [copies[1][0].severity, copies[5][0].severity]
    assert [noise.severity for noise in copies[-1]] == [copies[2][0].severity, copies[6][0].severity]
    named = corrupted_copies(Kinds("image", "vector"), ("image:dropout@2,4",))
    assert kinds_of(named) == ["image:dropout"]
    assert len(named) == 2


def test_results_and_state(run, monkeypatch):
    folder, results = run
    figures = results["inference"]["trust"]
    assert figures["seen"] == ["pix:gaussian", "fou:gaussian"]
    trust = figures["test"]["clean"]["trust"]
    assert all(0 <= one["down_weighted"] <= 0.05 + 0.05 and 0 <= one["mean"] <= 1 for one in trust.values())
    monkeypatch.setattr(ConformalTrust, "fit_curve", lambda *_, **__: pytest.fail("must not be fitted again"))
    again = evaluate(folder)
    assert {key: results[key] for key in again} == again


def test_it_is_exported(run, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="an extra")
    folder, _ = run
    with safetensors.safe_open(export(folder, tmp_path / "model.safetensors"), "pt") as file:
        widths, names = json.loads(file.metadata()["widths"]), list(file.keys())
        tensors = {name.removeprefix("trust."): file.get_tensor(name) for name in names if name.startswith("trust.")}
    loaded = ConformalTrust(widths)
    loaded.load_state_dict(tensors)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["inference"]["trust"]["trust"]
    assert loaded.calibrated
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_every_missing_pattern_is_covered(run):
    _, results = run
    test, calibration = results["data"]["test"], results["data"]["calibration"]
    rank = int(np.ceil((calibration + 1) * 0.9))
    low, high = (stats.betabinom(test, rank, calibration + 1 - rank).ppf(p) / test for p in (1e-4, 1 - 1e-4))
    for condition in ("clean", "without-pix", "without-fou"):
        sets = results["test"][condition]["coverage"][FUSED]
        assert low <= sets["coverage"] <= high + 0.1  # ties of scores near 0
        assert sets["rule"] == ("pattern" if "without" in condition else "split")


def rows(count, seed, *, noisy=(), present=None, width=6):
    """Features of two modalities at two depths; the first depth of noisy ones is far away."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    features = {m: (2 * np.eye(3, width)[labels] + generator.normal(size=(count, width))) for m in "ab"}
    early = {m: generator.normal(size=(count, 4)) + 20 * (m in noisy) for m in "ab"}
    features = {m: generator.normal(size=h.shape) if m in noisy else h for m, h in features.items()}
    features = {m: h.astype(np.float32) for m, h in features.items()}
    depths = {m: (early[m].astype(np.float32), h) for m, h in features.items()}
    return PartFeatures(features, labels, present or {}, depths)


def fitted(present=None, alpha=0.05):
    torch.manual_seed(0)
    shapes = {m: Modality(kind="vector", shape=(4,)) for m in "ab"}
    model = MultimodalClassifier(shapes, {m: MLPConfig(hidden=8) for m in "ab"}, dim=6, classes=3)
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.copy_(torch.eye(3, 6))
            head.bias.zero_()
    method = MethodConfig.named("joint")().build(model, ("a", "b"))
    variant = parse_inference(f"trust:alpha={alpha}").build(Trained(model, method, None, batch_size=64, seed=0))
    counts = {"train": 400, "validation": 200}

    def part(name, noise=()):
        masks = {} if present is None else {"b": np.arange(counts[name]) % 2 == 0}
        seed = list(counts).index(name)
        return rows(counts[name], seed, noisy={one.modality for one in noise}, present=masks)

    dataset = Kinds()
    dataset.modalities = shapes
    source = SimpleNamespace(part=part, dataset=dataset)  # has no calibration and no test rows
    variant.prepare(source)
    variant.fit(source)
    return variant


def predicted(variant, part):
    features, depths = (
        {m: torch.from_numpy(h) for m, h in part.features.items()},
        {m: tuple(torch.from_numpy(h) for h in values) for m, values in part.depths.items()},
    )
    present = {m: torch.from_numpy(mask) for m, mask in part.present.items()}
    with torch.no_grad():
        return variant.predict(features, present, depths)


def test_a_corrupted_modality_is_down_weighted():
    variant = fitted()
    clean, noisy = rows(500, 5), rows(500, 6, noisy=("a",))
    _, trust = predicted(variant, clean)
    assert all(float((g < 1).float().mean()) < 0.1 for g in trust.values())
    logits, trust = predicted(variant, noisy)
    assert float(trust["a"].max()) < 0.2
    plain = variant.trained.logits({m: torch.from_numpy(h) for m, h in noisy.features.items()})
    accuracy = [float((z[FUSED].argmax(1).numpy() == noisy.labels).mean()) for z in (plain, logits)]
    assert accuracy[1] > accuracy[0] + 0.05


def test_state_restores_the_predictions():
    variant = fitted()
    other = parse_inference("trust").build(variant.trained)
    other.load_state_dict(variant.state_dict())
    part = rows(50, 7, noisy=("b",))
    (first, weights), (second, again) = predicted(variant, part), predicted(other, part)
    assert torch.equal(first[FUSED], second[FUSED])
    assert all(torch.equal(weights[m], again[m]) for m in weights)


def test_rows_that_lack_a_modality():
    variant = fitted(present=True)
    part = rows(60, 8, present={"b": np.arange(60) % 3 == 0})
    _, trust = predicted(variant, part)
    assert (trust["b"][~torch.from_numpy(part.present["b"])] == 0).all()
    changed = rows(60, 8, present=part.present)
    changed.depths["b"][0][~part.present["b"]] = np.nan
    (first, _), (second, _) = predicted(variant, part), predicted(variant, changed)
    assert torch.equal(first[FUSED], second[FUSED])
    alone, _ = predicted(variant, PartFeatures({"a": part.features["a"]}, part.labels, {}, {"a": part.depths["a"]}))
    assert set(alone) == {"a", FUSED}
