"""RSC and GSC in the loss of a LightningModule, with quantiles that a callback computes."""

import lightning
import torch
from ordinary import LateFusion, draw_labels, draw_signal
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cpsc_gsc import gsc_loss
from cpsc_rsc import MultimodalSelfCalibration
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles
from cpsc_rsc.callbacks.lightning import QuantileCallback

DIMS = {"audio": 32, "image": 48}


def data(count: int, seed: int) -> TensorDataset:
    """Draw audio vectors of width 20, image vectors of width 30, and their labels."""
    labels = draw_labels(count, seed)
    audio = draw_signal(labels, (20,), noise=3.0, seed=seed + 1)
    return TensorDataset(audio, draw_signal(labels, (30,), noise=2.0, seed=seed + 2), labels)


class SelfCalibrated(lightning.LightningModule):
    """Late-fusion model, trained with RSC and GSC once its quantiles are computed."""

    def __init__(self) -> None:
        super().__init__()
        encoders = {
            "audio": nn.Sequential(nn.Linear(20, DIMS["audio"]), nn.ReLU()),
            "image": nn.Sequential(nn.Linear(30, DIMS["image"]), nn.ReLU()),
        }
        self.model = LateFusion(encoders, DIMS)
        self.rsc = MultimodalSelfCalibration(DIMS)
        self.qhat = HeadQuantiles(DIMS, alpha=0.1)

    def forward(self, audio: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Return the features (B, d_m) of each modality."""
        return self.model.features({"audio": audio, "image": image})

    def head_outputs(self, batch: list[Tensor]) -> HeadOutputs:
        """Return the outputs of the heads for a batch of the calibration set; `QuantileCallback` calls this."""
        *inputs, labels = batch
        return HeadOutputs(self.model.classify(self(*inputs))[0], labels)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss of one batch."""
        *inputs, labels = batch
        features = self(*inputs)
        if not self.qhat.calibrated:
            logits, fused = self.model.classify(features)
            return cross_entropy(fused, labels) + sum(cross_entropy(z, labels) for z in logits.values())
        qhat = self.qhat()
        out = self.rsc(features, labels, heads=self.model.heads, qhat=qhat)
        logits, fused = self.model.classify({m: o.recomposed for m, o in out.items()})
        loss = cross_entropy(fused, labels) + sum(o.divergence for o in out.values())
        return loss + gsc_loss(logits, labels, fused_logits=fused, qhat=qhat)

    def test_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        *inputs, labels = batch
        _, fused = self.model.classify(self(*inputs))
        self.log("accuracy", (fused.argmax(-1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(epochs: int = 8, warmup: int = 3) -> dict[str, float]:
    """Train; return the accuracy on a test set."""
    lightning.seed_everything(0, verbose=False)
    module, loader = SelfCalibrated(), DataLoader(data(400, seed=0), batch_size=50, shuffle=True)
    steps, calibration = len(loader), DataLoader(data(200, seed=10), batch_size=200)
    calibrate = QuantileCallback(calibration, every_n_steps=steps, warmup_steps=warmup * steps)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[calibrate], **quiet)
    trainer.fit(module, loader)
    return dict(trainer.test(module, DataLoader(data(400, seed=20), batch_size=400), verbose=False)[0])


if __name__ == "__main__":
    print(main())
