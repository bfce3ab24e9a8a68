"""The model as one module: the same predictions as those of the run."""

import copy
import json

import pytest
import torch

from cpsc_train.deployment import DeployedModel
from cpsc_train.deployment.files import examples
from cpsc_train.errors import UserError
from cpsc_train.inference import Inference
from cpsc_train.inference.trust import Trust
from cpsc_train.methods import MethodConfig
from cpsc_train.prediction.state import restore
from cpsc_train.runs import RunFolder
from cpsc_train.training.config import RunConfig, with_method


def deployed(run, inference="trust"):
    return DeployedModel.from_run(run, inference=inference)


@pytest.mark.parametrize("inference", ["plain", "trust"])
def test_its_outputs_are_the_predictions_of_the_run(digits, samples, inference):
    samples.check(deployed(digits.run, inference)(samples.inputs, samples.present), inference)


def test_it_is_built_from_json_and_tensors(digits, samples):
    module = deployed(digits.run)
    again = DeployedModel(json.loads(json.dumps(module.description, allow_nan=False)))
    again.load_state_dict(module.state_dict())
    samples.check(again(samples.inputs, samples.present), "trust")
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_state_that_lacks_a_tensor_is_refused(digits):
    module = deployed(digits.run, "plain")
    state = module.state_dict()
    del state["model.heads.fou.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*model\.heads\.fou\.bias"):
        module.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"more"'):
        module.load_state_dict(module.state_dict() | {"more": torch.zeros(1)})


def test_quantiles_of_the_training_loop_follow_the_module(finished):
    module = deployed(finished, "plain")
    assert set(module.qhat) == {"pix", "fou", "fused"}
    kept = torch.load(finished / "checkpoint.pt", weights_only=True)["qhat"]
    module.to(torch.float64)
    assert module._trained.qhat["fused"].dtype == torch.float64
    assert float(module._trained.qhat["fused"]) == float(kept["fused"])


def test_a_variant_without_a_module_is_refused(digits, monkeypatch):
    restored = restore(RunFolder(digits.run), device="cpu", inference="trust")
    monkeypatch.setattr(Trust, "build_module", Inference.build_module)
    with pytest.raises(UserError, match="inference variant 'trust' cannot be exported: choose inference plain"):
        DeployedModel.from_restored(restored)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(MethodConfig.members))
def test_the_forward_pass_of_every_method_is_exported(finished, method):
    description = copy.deepcopy(deployed(finished, "plain").description)
    config = RunConfig.from_plain(description["config"])
    description["config"] = with_method(config, MethodConfig.named(method)()).to_plain()
    module = DeployedModel(description)
    arguments = examples(module)
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({m: {0: batch} for m in values} for values in arguments)
    program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False).module()
    rows = {m: torch.rand(5, *x.shape[1:]) for m, x in arguments[0].items()}
    present = {"pix": torch.arange(5) % 3 != 1, "fou": torch.arange(5) != 2}
    expected = module(rows, present)
    for name, output in program(rows, present).items():
        torch.testing.assert_close(output, expected[name])
