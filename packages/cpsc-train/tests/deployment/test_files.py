"""Exported files: what they hold, and the outputs of those that hold the forward pass."""

import json

import numpy as np
import pytest
import torch

from cpsc_train.deployment import DeployedModel, export
from cpsc_train.errors import UserError


def test_safetensors_hold_all_that_the_module_is_built_from(digits, samples, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="an extra")
    path = export(digits.run, tmp_path / "model.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        description = {key: json.loads(text) for key, text in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    module = DeployedModel(description)
    module.load_state_dict(tensors)
    samples.check(module(samples.inputs, samples.present), "trust")
    assert description["epoch"] in {1, 2, 3}
    assert description["thresholds"]["alpha"] == 0.1
    assert np.shape(description["scales"]["fou"]) == (2, 76)


@pytest.mark.slow
def test_the_exported_program_predicts_batches_of_any_size(digits, samples, tmp_path):
    path = export(digits.run, tmp_path / "model.pt2", format="torch-export")
    more = {"description.json": ""}
    program = torch.export.load(path, extra_files=more).module()
    samples.check(program(samples.inputs, samples.present), "trust")
    one = program(*({m: x[:1] for m, x in of.items()} for of in (samples.inputs, samples.present)))
    np.testing.assert_allclose(one["probabilities"], samples.expected["trust"].probabilities[:1], atol=1e-5)
    assert json.loads(more["description.json"])["classes"] == [str(k) for k in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("inference", ["plain", "trust"])
def test_the_onnx_file_predicts_batches_of_any_size(digits, samples, tmp_path, inference):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="an extra")
    runtime = pytest.importorskip("onnxruntime", reason="an extra")
    session = runtime.InferenceSession(export(digits.run, tmp_path / "m.onnx", format="onnx", inference=inference))
    feed = {m: x.numpy() for m, x in samples.inputs.items()}
    feed |= {f"present.{m}": mask.numpy() for m, mask in samples.present.items()}
    names = [output.name for output in session.get_outputs()]
    samples.check(dict(zip(names, session.run(None, feed), strict=True)), inference)
    one = session.run(["probabilities"], {name: x[:1] for name, x in feed.items()})
    np.testing.assert_allclose(one[0], samples.expected[inference].probabilities[:1], atol=1e-5)
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["inference"]) == inference


def test_a_step_that_cannot_be_exported_is_named(digits, tmp_path, monkeypatch):
    def forward(self, inputs, present):
        raise NotImplementedError("no such step")

    monkeypatch.setattr(DeployedModel, "forward", forward)
    with pytest.raises(
        UserError, match=r"the model cannot be exported as torch-export \(.*no such step\): choose --format sa"
    ):
        export(digits.run, tmp_path / "model.pt2", format="torch-export")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named(digits):
    with pytest.raises(UserError, match=r"unknown format 'onx'; did you mean 'onnx'"):
        export(digits.run, format="onx")


def test_the_place_is_checked_first(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(DeployedModel, "from_run", lambda *_, **__: pytest.fail("must not be loaded"))
    with pytest.raises(UserError, match=r"absent/model\.safetensors: cannot be written"):
        export(digits.run, tmp_path / "absent/model.safetensors")
    with pytest.raises(UserError, match=r"the model card .*model\.md would replace the model"):
        export(digits.run, tmp_path / "model.md")
