"""RSC and GSC for regression, on real data: the diabetes set that scikit-learn brings, as two modalities.

    pip install scikit-learn
    python studies/regression.py --seeds 20

442 patients; `body` is age, sex, body mass index and blood pressure, `serum` six measurements of the blood; the target
is the progress of the disease after a year, 25 to 346. Half of the rows train, a fifth calibrates, a tenth selects the
epoch, a fifth tests; a seed draws all of it. Small MLPs, late fusion by the mean. A modality of the test rows is made
noisy by one standard deviation. Differences to `joint + unimodal` are paired by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from conformal_core import CQR, AbsoluteResidual, ResidualScore, conformal_quantile
from cpsc_gsc import gsc_loss
from cpsc_rsc import MultimodalSelfCalibration
from cpsc_train.experiments.statistics import paired_difference

COLUMNS = {"body": slice(0, 4), "serum": slice(4, 10)}
DIM, EPOCHS, WARMUP, BATCH, ALPHA = 16, 60, 10, 32, 0.1
METHODS = {  # unimodal terms, RSC, GSC
    "joint + unimodal": (True, False, False),
    "joint": (False, False, False),
    "GSC": (True, False, True),
    "RSC": (True, True, False),
    "RSC + GSC": (True, True, True),
}
Inputs = dict[str, Tensor]


def pinball(said: Tensor, y: Tensor) -> Tensor:
    """Return the losses (B,) of two conditional quantiles, those at α/2 and 1 − α/2."""
    low, high = y - said[..., 0], y - said[..., 1]
    q = ALPHA / 2
    return torch.maximum(q * low, (q - 1) * low) + torch.maximum((1 - q) * high, -q * high)


SCORES: dict[str, tuple[ResidualScore, int, Callable[[Tensor, Tensor], Tensor]]] = {
    "absolute residual": (AbsoluteResidual(), 1, partial(mse_loss, reduction="none")),
    "CQR": (CQR(), 2, pinball),
}


class Model(nn.Module):
    """An MLP and a linear head a modality; the fused prediction is the mean."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(c.stop - c.start, 32), nn.ReLU(), nn.Linear(32, DIM))
                for m, c in COLUMNS.items()
            }
        )
        self.heads = nn.ModuleDict({m: nn.Linear(DIM, columns) for m in COLUMNS})

    def features(self, x: Inputs) -> Inputs:
        return {m: encoder(x[m]) for m, encoder in self.encoders.items()}

    def predict(self, features: Inputs) -> tuple[Inputs, Tensor]:
        said = {m: self.heads[m](h).squeeze(-1) for m, h in features.items()}
        return said, torch.stack(list(said.values())).mean(0)


def parts(seed: int) -> tuple[dict[str, tuple[Inputs, Tensor]], float]:
    """Return inputs and targets by part, standardised by the training rows, and the target's deviation."""
    data, target = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(seed).permutation(len(target))
    cut = np.split(order, (np.cumsum([0.5, 0.2, 0.1]) * len(order)).astype(int))
    rows = dict(zip(("train", "calibration", "validation", "test"), cut, strict=True))
    x, y = data[rows["train"]], target[rows["train"]]
    found = {}
    for part, of in rows.items():
        scaled = torch.from_numpy(((data[of] - x.mean(0)) / x.std(0)).astype(np.float32))
        targets = torch.from_numpy(((target[of] - y.mean()) / y.std()).astype(np.float32))
        found[part] = ({m: scaled[:, c] for m, c in COLUMNS.items()}, targets)
    return found, float(y.std())


def train(method: str, score_name: str, seed: int) -> dict[str, float]:
    """Return mean absolute error, coverage and width of the intervals on the test rows, by condition."""
    torch.manual_seed(seed)
    data, unit = parts(seed)
    score, columns, loss = SCORES[score_name]
    unimodal, with_rsc, with_gsc = METHODS[method]
    model = Model(columns)
    rsc = MultimodalSelfCalibration(
        dict.fromkeys(COLUMNS, DIM), residual=0.3, match_magnitude=True, divergence="js", score=score
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *rsc.parameters()], lr=3e-3, weight_decay=0.01)
    a, b = (0.6, 0.6) if with_gsc else (0.0, 1.0)

    @torch.no_grad()
    def quantiles() -> dict[str, Tensor]:
        x, y = data["calibration"]
        said, fused = model.predict(model.features(x))
        return {m: conformal_quantile(score(z, y), alpha=ALPHA) for m, z in (said | {"fused": fused}).items()}

    @torch.no_grad()
    def fused(x: Inputs) -> Tensor:
        return model.predict(model.features(x))[1]

    best, kept = float("inf"), deepcopy(model.state_dict())
    x, y = data["train"]
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            here, targets = {m: v[rows] for m, v in x.items()}, y[rows]
            features = model.features(here)
            total = torch.zeros(())
            if epoch >= WARMUP and with_rsc:
                out = rsc(features, targets, heads=model.heads, qhat=quantiles())
                features = {m: o.recomposed for m, o in out.items()}
                total = sum((o.divergence for o in out.values()), total)
            said, together = model.predict(features)
            total = total + loss(together, targets).mean()
            if epoch >= WARMUP and unimodal:
                given: dict[str, Any] = {"qhat": quantiles(), "score": score, "loss": loss}
                total = total + gsc_loss(said, targets, fused_logits=together, a=a, b=b, **given)
            elif unimodal:
                total = total + sum(loss(z, targets).mean() for z in said.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        held = float(loss(fused(data["validation"][0]), data["validation"][1]).mean())
        if epoch >= WARMUP and held < best:
            best, kept = held, deepcopy(model.state_dict())
    model.load_state_dict(kept)
    qhat = quantiles()["fused"]
    x, y = data["test"]
    noise = {m: torch.randn(v.shape, generator=torch.Generator().manual_seed(seed)) for m, v in x.items()}
    found = {}
    for condition in ("clean", *COLUMNS):
        said = fused({m: v + noise[m] if m == condition else v for m, v in x.items()})
        found[f"{condition} error"] = unit * float((score.point(said) - y).abs().mean())
        low, high = score.interval(said, qhat).unbind(-1)
        if condition == "clean":
            found["coverage"] = float(((low <= y) & (y <= high)).double().mean())
            found["width"] = unit * float((high - low).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for score in SCORES:
        runs = {method: [train(method, score, seed) for seed in range(given.seeds)] for method in METHODS}
        print(f"\n{score}, {given.seeds} seeds: mean absolute error, coverage for a target of {1 - ALPHA:g}\n")
        print("| | clean | difference | body noisy | difference | serum noisy | difference | coverage | width |")
        print("|---" * 9 + "|")
        for method, found in runs.items():
            cells = []
            for column in ("clean error", "body error", "serum error"):
                values, plain = ([run[column] for run in of] for of in (found, runs["joint + unimodal"]))
                mean, low, high, _ = paired_difference(values, plain)
                cells.append(f"{np.mean(values):.1f}")
                text = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
                text = f"**{text}**" if low > 0 or high < 0 else text
                cells.append("" if method == "joint + unimodal" else text)
            cells += [
                f"{np.mean([run['coverage'] for run in found]):.3f}",
                f"{np.mean([run['width'] for run in found]):.0f}",
            ]
            print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
