"""Selection of components in RSC: by the given label, and by the label that the other modalities predict.

    python studies/selection.py --seeds 0..4

Handwritten `fou` and `zer`, RSC without GSC. Each run reports, on training rows and on validation rows, the fraction of
rows in which the conformal selection of components differs from the K components with the largest probability of the
same label, and from those selected with the given label; and the test accuracy. Results: ``reliability-selection.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tables import write_csv
from torch import Tensor, nn

from cpsc_rsc import MultimodalSelfCalibration, RSCOutput
from cpsc_rsc.selection import component_reliability, top_k
from cpsc_train.config import apply_settings
from cpsc_train.data import Noise
from cpsc_train.evaluation import metrics
from cpsc_train.experiments.grid import parse_seeds
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

CONDITIONS = ["fou:gaussian:0.5,1,2", "zer:gaussian:0.5,1,2"]


class OthersLabel(nn.Module):
    """RSC in which the label of each modality is the one that the mean of the other modalities' logits predicts."""

    def __init__(self, rsc: MultimodalSelfCalibration) -> None:
        super().__init__()
        self.rsc = rsc

    def forward(
        self, features: Mapping[str, Tensor], labels: Tensor, *, heads: Any, qhat: Mapping[str, Tensor], **options: Any
    ) -> dict[str, RSCOutput]:
        """Calibrate the features of every modality."""
        options.pop("present", None)
        predicted = others_labels(features, heads)
        return {m: self.rsc[m](h, predicted[m], head=heads[m], qhat=qhat[m], **options) for m, h in features.items()}


def others_labels(features: Mapping[str, Tensor], heads: Any) -> dict[str, Tensor]:
    """Return by modality the label (B,) that the others predict."""
    with torch.no_grad():
        logits = {m: heads[m](h) for m, h in features.items()}
        return {m: torch.stack([z for n, z in logits.items() if n != m]).sum(0).argmax(-1) for m in features}


def selections(rsc: MultimodalSelfCalibration, trainer: Trainer, part: str) -> dict[str, float]:
    """Return by comparison the fraction of rows and modalities, in %, whose selected components differ."""
    model, qhat = trainer.objective.model, trainer.refresh.qhat or {}
    rows = trainer.evaluator().encode(part)
    features = {m: torch.from_numpy(h) for m, h in rows.features.items()}
    labels = {
        "given": dict.fromkeys(features, torch.from_numpy(rows.labels)),
        "others": others_labels(features, model.heads),
    }
    found: dict[str, list[float]] = {}
    for m, h in features.items():
        with torch.no_grad():
            components = rsc[m].components(h)
        chosen = {}
        for kind, of in labels.items():
            rated, scores = component_reliability(components, of[m], head=model.heads[m], qhat=qhat[m])
            k = rsc[m].top_k
            chosen[kind] = top_k(rated, scores, k).sort(-1).values
            plain = top_k(torch.zeros_like(rated), scores, k).sort(-1).values
            found.setdefault(f"{kind}: conformal and plain", []).append(_differ(chosen[kind], plain))
            ties = ((rated == 1).sum(-1) >= k).double().mean()
            found.setdefault(f"{kind}: K ties at 1", []).append(100 * float(ties))
        found.setdefault("given and others", []).append(_differ(chosen["given"], chosen["others"]))
        agree = (labels["given"][m] != labels["others"][m]).double().mean()
        found.setdefault("labels differ", []).append(100 * float(agree))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _differ(first: Tensor, second: Tensor) -> float:
    return 100 * float((first != second).any(-1).double().mean())


def run(label: str, seed: int, epochs: int) -> list[list[object]]:
    """Train once; return lines of part, measure and value."""
    base = recipe("handwritten", modalities=("fou", "zer"), epochs=epochs)
    changes = [
        f"seed={seed}",
        f"splits.seed={seed}",
        "noise=[]",
        "method.parts=rsc",
        "method.inference=features",
    ]
    config = replace(apply_settings(base, changes), leave_out=False)
    with config.compute.applied():
        trainer = Trainer(Setup.build(config))
        method: Any = trainer.objective.method
        rsc = method.rsc
        if label == "others":
            method.rsc = OthersLabel(rsc)
        best, lines = -1.0, []
        while trainer.epoch < config.epochs:
            counts = not trainer.warming_up
            trainer.train_epoch(Observer())
            accuracy = float(trainer.validate()["accuracy"][FUSED])
            if counts and accuracy > best:
                best, lines = accuracy, _tested(trainer)
        for part in ("train", "validation"):
            lines += [[part, name, value] for name, value in selections(rsc, trainer, part).items()]
    return lines


def _tested(trainer: Trainer) -> list[list[object]]:
    """Return clean test accuracy and its mean over noisy conditions."""
    evaluator = trainer.evaluator()
    clean = evaluator.collect("test").each(metrics.accuracy)[FUSED]
    noises = [noise for text in CONDITIONS for noise in Noise.sweep(text)]
    noisy = [evaluator.collect("test", [noise]).each(metrics.accuracy)[FUSED] for noise in noises]
    return [["test", "clean", 100 * clean], ["test", "noisy", 100 * float(np.mean(noisy))]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("studies/results/reliability-selection.csv"))
    options = parser.parse_args()
    lines: list[list[object]] = []
    for seed in parse_seeds(options.seeds):
        for label in ("given", "others"):
            found = run(label, seed, options.epochs)
            lines += [[label, seed, part, name, f"{value:.4g}"] for part, name, value in found]
        print(seed, flush=True)
        write_csv(options.out, ["trained with", "seed", "part", "measure", "value"], lines)


if __name__ == "__main__":
    main()
