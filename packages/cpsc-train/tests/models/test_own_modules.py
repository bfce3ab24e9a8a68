"""Fusions, and modules of a user's own."""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.models.fusion import ConcatConfig, ImportedFusionConfig, LateConfig, SumConfig
from cpsc_train.models.imported import ImportedConfig

VECTOR = Modality(kind="vector", shape=(5,))
CODE = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self, shape, dim, wide=False):
        super().__init__()
        self.layer = nn.Linear(shape[0], dim + wide)
        self.register_buffer("calls", torch.zeros(()))
    def forward(self, x):
        self.calls += 1
        return self.layer(x)

class Broken(Encoder):
    def forward(self, x):
        return {}["missing"]

class Fusion(nn.Module):
    def __init__(self, modalities, dim, classes, turned=False):
        super().__init__()
        self.turned = turned
    def forward(self, features, logits):
        out = sum(logits.values())
        return out.T if self.turned else out

def nothing(shape, dim):
    return None

def picky(shape, dim):
    raise RuntimeError("not today")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_modules.py").write_text(textwrap.dedent(CODE), encoding="utf-8")
    (tmp_path / "own_broken.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "own_failing.py").write_text("import torch\ntorch.no_such_thing\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_modules", "own_broken", "own_failing"):
        sys.modules.pop(name, None)


def model(fusion):
    torch.manual_seed(0)
    encoders = {"a": MLPConfig(hidden=3), "b": MLPConfig(hidden=3)}
    return MultimodalClassifier({"a": VECTOR, "b": VECTOR}, encoders, fusion=fusion, dim=4, classes=3)


def test_fusions_by_hand():
    features = {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    late = model(LateConfig()).classify(features)
    torch.testing.assert_close(late[FUSED], (late["a"] + late["b"]) / 2)
    concat = model(ConcatConfig())
    expected = concat.fusion.head(torch.cat([features["a"], features["b"]], -1))
    torch.testing.assert_close(concat.classify(features)[FUSED], expected)
    summed = model(SumConfig())
    torch.testing.assert_close(summed.classify(features)[FUSED], summed.fusion.head(features["a"] + features["b"]))


@pytest.mark.parametrize("fusion", [LateConfig(), ConcatConfig(), SumConfig()])
def test_a_missing_modality_is_left_out(fusion):
    made = model(fusion)
    features = {"a": torch.randn(2, 4), "b": torch.zeros(2, 4)}
    alone = made.classify({"a": features["a"]})
    assert set(alone) == {"a", FUSED}
    expected = alone["a"] if isinstance(fusion, LateConfig) else made.classify(features)[FUSED]
    torch.testing.assert_close(alone[FUSED], expected)
    for wrong in ({}, {"c": features["a"]}):
        with pytest.raises(ValueError, match="must be at least one of a, b"):
            made.classify(wrong)


@pytest.mark.usefixtures("own")
def test_a_module_of_ones_own():
    encoder = ImportedConfig(path="own_modules:Encoder").build(VECTOR, 4)
    assert encoder(torch.randn(2, 5)).shape == (2, 4)
    assert encoder.calls == 1  # the trial was on a copy
    made = model(ImportedFusionConfig(path="own_modules:Fusion"))
    logits = made.classify({"a": torch.randn(2, 4), "b": torch.randn(2, 4)})
    torch.testing.assert_close(logits[FUSED], logits["a"] + logits["b"])


@pytest.mark.usefixtures("own")
def test_the_trial_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    ImportedConfig(path="own_modules:Encoder").build(VECTOR, 4)
    after = torch.rand(1)
    torch.manual_seed(3)
    torch.nn.Linear(5, 4)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("own_modules", {}, "must read package.module:attribute"),
        ("own_absent:Encoder", {}, "cannot be imported: ModuleNotFoundError"),
        ("own_broken:Encoder", {}, "cannot be imported: SyntaxError"),
        ("own_failing:Encoder", {}, "cannot be imported: AttributeError"),
        ("own_modules:Absent", {}, "own_modules has no 'Absent'"),
        ("own_modules:Encoder", {"size": 3}, "cannot be called with shape, dim, size: TypeError"),
        ("own_modules:picky", {}, "cannot be called with shape, dim: not today"),
        ("own_modules:nothing", {}, "must return a torch module, got NoneType"),
        ("own_modules:Encoder", {"wide": True}, r"must return a tensor of shape \(2, 4\), got \(2, 5\)"),
        ("own_modules:Broken", {}, r"given two samples of shape \(5,\), fails: KeyError: 'missing'"),
    ],
)
def test_what_is_wrong_with_it_is_told(path, options, said):
    with pytest.raises(UserError, match=said):
        ImportedConfig(path=path, options=options).build(VECTOR, 4)


@pytest.mark.usefixtures("own")
def test_a_fusion_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"must return a tensor of shape \(2, 3\), got \(3, 2\)"):
        model(ImportedFusionConfig(path="own_modules:Fusion", options={"turned": True}))
