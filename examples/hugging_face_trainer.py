"""Text and images with the Hugging Face Trainer: a small BERT built from a config, and a small CNN."""

from tempfile import TemporaryDirectory

import numpy as np
import torch
from ordinary import CLASSES, LateFusion, draw_labels, draw_signal, draw_tokens
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertModel, EvalPrediction, Trainer, TrainingArguments

from cpsc_gsc import gsc_loss
from cpsc_rsc import MultimodalSelfCalibration
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles
from cpsc_rsc.callbacks.transformers import QuantileCallback

DIMS = {"text": 32, "image": 48}


class TextEncoder(nn.Module):
    """BERT that outputs the last hidden state of the first token."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=10 * CLASSES,
            hidden_size=DIMS["text"],
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids (B, T) to features (B, d)."""
        return self.bert(input_ids=tokens).last_hidden_state[:, 0]


class TextAndImage(nn.Module):
    """Late-fusion model whose training loss includes RSC and GSC once its quantiles are computed."""

    def __init__(self) -> None:
        super().__init__()
        image = nn.Sequential(
            nn.Conv2d(3, DIMS["image"], 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.model = LateFusion({"text": TextEncoder(), "image": image}, DIMS)
        self.rsc = MultimodalSelfCalibration(DIMS)
        self.qhat = HeadQuantiles(DIMS, alpha=0.1)

    def head_outputs(self, batch: dict[str, Tensor]) -> HeadOutputs:
        """Return the outputs of the heads for a batch of the calibration set; `QuantileCallback` calls this."""
        return HeadOutputs(self.model.classify(self.model.features(batch))[0], batch["labels"])

    def forward(self, text: Tensor, image: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss and the fused logits, as the Trainer expects."""
        features = self.model.features({"text": text, "image": image})
        if not (self.training and self.qhat.calibrated):
            logits, fused = self.model.classify(features)
            loss = cross_entropy(fused, labels) + sum(cross_entropy(z, labels) for z in logits.values())
            return {"loss": loss, "logits": fused}
        qhat = self.qhat()
        out = self.rsc(features, labels, heads=self.model.heads, qhat=qhat)
        logits, fused = self.model.classify({m: o.recomposed for m, o in out.items()})
        loss = cross_entropy(fused, labels) + sum(o.divergence for o in out.values())
        return {"loss": loss + gsc_loss(logits, labels, fused_logits=fused, qhat=qhat), "logits": fused}


class Samples(Dataset):
    """Sequences of eight tokens, small images, and labels."""

    def __init__(self, count: int, seed: int) -> None:
        self.labels = draw_labels(count, seed)
        self.text = draw_tokens(self.labels, 8, seed=seed + 1)
        self.image = draw_signal(self.labels, (3, 16, 16), noise=2.0, seed=seed + 2)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"text": self.text[row], "image": self.image[row], "labels": self.labels[row]}


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Return the accuracy."""
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def main(epochs: int = 4, warmup: int = 2) -> dict[str, float]:
    """Train; return the accuracy on a test set."""
    torch.manual_seed(0)
    steps = 256 // 32  # in an epoch
    calibration = DataLoader(Samples(100, seed=10), batch_size=100)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=200,
            learning_rate=3e-3,
            seed=0,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            TextAndImage(),
            arguments,
            train_dataset=Samples(256, seed=0),
            eval_dataset=Samples(200, seed=20),
            compute_metrics=accuracy,
            callbacks=[QuantileCallback(calibration, every_n_steps=steps, warmup_steps=warmup * steps)],
        )
        trainer.train()
        return {"accuracy": trainer.evaluate()["eval_accuracy"]}


if __name__ == "__main__":
    print(main())
