"""Callbacks of Lightning in its Trainer."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cpsc_rsc.callbacks import calibrate_heads
from frameworks import Calibrated, corrupt, loader

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

from cpsc_rsc.callbacks.lightning import QuantileCallback, TrustCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # Lightning warns of short runs


class Module(pl.LightningModule, Calibrated):
    def __init__(self):
        super().__init__()
        self.steps = []

    def training_step(self, batch):
        self.steps.append((self.training, self.heads["audio"][0].training, self.qhat.calibrated))
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", callbacks=list(callbacks), **quiet, **options)


def test_quantiles_are_refreshed_on_schedule_in_evaluation_mode():
    module = Module()
    callback = QuantileCallback(loader(50, 1), every_n_steps=3, warmup_steps=2)
    options = {"max_epochs": 2, "accumulate_grad_batches": 2, "enable_checkpointing": False}
    trainer(callback, **options).fit(module, loader(200, 0))  # 8 batches, so 4 steps an epoch
    assert module.modes == [False] * 4  # at steps 2 and 5, on two batches each
    assert module.steps == [(True, True, False)] * 4 + [(True, True, True)] * 12


def test_a_checkpoint_keeps_quantiles_and_trust(tmp_path):
    module = Module()
    callbacks = QuantileCallback(loader(50, 1), every_n_steps=8), TrustCallback(loader(200, 0), loader(50, 2), corrupt)
    fitted = trainer(*callbacks, max_epochs=1, enable_checkpointing=False)
    fitted.fit(module, loader(200, 0))
    assert module.trust.calibrated
    fitted.save_checkpoint(tmp_path / "module.ckpt")
    restored = Module.load_from_checkpoint(tmp_path / "module.ckpt")
    assert restored.trust.calibrated
    for name, value in module.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name
    resumed = Module()
    trainer(max_epochs=2, enable_checkpointing=False).fit(resumed, loader(200, 0), ckpt_path=tmp_path / "module.ckpt")
    assert resumed.steps == [(True, True, True)] * 8
    assert resumed.qhat() == module.qhat()


def test_mixed_precision_is_that_of_training():
    module, other = Module(), Module()
    other.load_state_dict(module.state_dict())
    callback = QuantileCallback(loader(50, 1), every_n_steps=99)
    trainer(callback, precision="bf16-mixed", max_steps=1, enable_checkpointing=False).fit(module, loader(200, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        calibrate_heads(other, loader(50, 1))
    assert module.qhat() == other.qhat()


@pytest.mark.slow
def test_processes_have_the_quantiles_of_one(tmp_path):
    worker = Path(__file__).with_name("lightning_worker.py")
    done = subprocess.run([sys.executable, worker, tmp_path], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    module = Module()
    calibrate_heads(module, loader(50, 1))
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == module.qhat()
