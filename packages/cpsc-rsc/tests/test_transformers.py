"""Callbacks of the Hugging Face Trainer."""

import pytest
import torch

from frameworks import Calibrated, Rows, corrupt, loader

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from cpsc_rsc.callbacks.transformers import QuantileCallback, TrustCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # the frameworks warn of each other's deprecations


class Model(Calibrated):
    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, **batch):
        self.steps.append((self.training, self.heads["audio"][0].training, self.qhat.calibrated))
        return {"loss": self.loss(batch)}


def trainer(model, folder, *callbacks, **options):
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    arguments = transformers.TrainingArguments(
        folder, use_cpu=True, per_device_train_batch_size=25, remove_unused_columns=False, **quiet, **options
    )
    return transformers.Trainer(model, arguments, train_dataset=Rows(200, 0), callbacks=list(callbacks))


def test_quantiles_are_refreshed_on_schedule_in_evaluation_mode(tmp_path):
    model = Model()
    callback = QuantileCallback(loader(50, 1), every_n_steps=3, warmup_steps=2)
    options = {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "save_strategy": "no"}
    trainer(model, tmp_path, callback, **options).train()  # 8 batches, so 4 steps an epoch
    assert model.modes == [False] * 4  # at steps 2 and 5, on two batches each
    assert model.steps == [(True, True, False)] * 4 + [(True, True, True)] * 12


def test_a_checkpoint_keeps_quantiles_and_the_saved_model_the_trust(tmp_path):
    model = Model()
    callbacks = QuantileCallback(loader(50, 1), every_n_steps=8), TrustCallback(loader(200, 0), loader(50, 2), corrupt)
    fitted = trainer(model, tmp_path, *callbacks, num_train_epochs=1, save_strategy="epoch")
    fitted.train()
    assert model.trust.calibrated
    fitted.save_model(tmp_path / "final")
    resumed = Model()
    again = trainer(resumed, tmp_path, num_train_epochs=2, save_strategy="no")
    again.train(resume_from_checkpoint=True)
    assert resumed.steps == [(True, True, True)] * 8
    assert resumed.qhat() == model.qhat()
    saved = safetensors.load_file(tmp_path / "final" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(saved[name], value), name


def test_mixed_precision_is_that_of_training(tmp_path):
    model, seen = Model(), []
    model.heads["audio"].register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    callback = QuantileCallback(loader(50, 1), every_n_steps=99)
    trainer(model, tmp_path, callback, bf16=True, max_steps=1, save_strategy="no").train()
    assert seen == [torch.bfloat16] * 3  # two batches of the calibration set, and one of training
