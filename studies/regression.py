"""RSC and GSC for regression, on the diabetes data of scikit-learn, as two modalities.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tables import difference, header, write_csv
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from conformal_core import CQR, AbsoluteResidual, RegressionScore, conformal_quantile
from cpsc_gsc import gsc_loss
from cpsc_rsc import MultimodalSelfCalibration

COLUMNS = {"body": slice(0, 4), "serum": slice(4, 10)}
DIM, EPOCHS, WARMUP, BATCH, ALPHA = 16, 60, 10, 32, 0.1
METHODS = {  # unimodal terms, RSC, GSC
    "joint + unimodal": (True, False, False),
    "joint": (False, False, False),
    "GSC": (True, False, True),
    "RSC": (True, True, False),
    "RSC + GSC": (True, True, True),
}
FIGURES = ("clean error", "coverage", "width", "body error", "serum error")
Inputs = dict[str, Tensor]


def pinball(predicted: Tensor, y: Tensor) -> Tensor:
    """Return the losses (B,) of two conditional quantiles, those at α/2 and 1 − α/2."""
    low, high = y - predicted[..., 0], y - predicted[..., 1]
    q = ALPHA / 2
    return torch.maximum(q * low, (q - 1) * low) + torch.maximum((1 - q) * high, -q * high)


SCORES: dict[str, tuple[RegressionScore, int, Callable[[Tensor, Tensor], Tensor]]] = {
    "absolute residual": (AbsoluteResidual(), 1, partial(mse_loss, reduction="none")),
    "CQR": (CQR(), 2, pinball),
}


class Model(nn.Module):
    """An MLP and a linear head per modality; the fused prediction is the mean."""

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
        unimodal = {m: self.heads[m](h).squeeze(-1) for m, h in features.items()}
        return unimodal, torch.stack(list(unimodal.values())).mean(0)


def parts(seed: int) -> tuple[dict[str, tuple[Inputs, Tensor]], float]:
    """Return inputs and targets by part, standardised by the training rows, and the target's standard deviation."""
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
    with_unimodal, with_rsc, with_gsc = METHODS[method]
    model = Model(columns)
    rsc = MultimodalSelfCalibration(
        dict.fromkeys(COLUMNS, DIM), residual=0.3, match_magnitude=True, divergence="js", score=score
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *rsc.parameters()], lr=3e-3, weight_decay=0.01)
    a, b = (0.6, 0.6) if with_gsc else (0.0, 1.0)

    @torch.no_grad()
    def quantiles() -> dict[str, Tensor]:
        x, y = data["calibration"]
        unimodal, fused = model.predict(model.features(x))
        return {m: conformal_quantile(score(z, y), alpha=ALPHA) for m, z in (unimodal | {"fused": fused}).items()}

    @torch.no_grad()
    def fused(x: Inputs) -> Tensor:
        return model.predict(model.features(x))[1]

    def step(inputs: Inputs, targets: Tensor, *, calibrated: bool) -> None:
        features, total = model.features(inputs), torch.zeros(())
        if calibrated and with_rsc:
            out = rsc(features, targets, heads=model.heads, qhat=quantiles())
            features = {m: o.recomposed for m, o in out.items()}
            total = sum((o.divergence for o in out.values()), total)
        unimodal, together = model.predict(features)
        total = total + loss(together, targets).mean()
        if calibrated and with_unimodal:
            options: dict[str, Any] = {"qhat": quantiles(), "score": score, "loss": loss}
            total = total + gsc_loss(unimodal, targets, fused_logits=together, a=a, b=b, **options)
        elif with_unimodal:
            total = total + sum(loss(z, targets).mean() for z in unimodal.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    def validated() -> float:
        return float(loss(fused(data["validation"][0]), data["validation"][1]).mean())

    fit(model, step, validated, data["train"])
    return tested(fused, score, quantiles()["fused"], data["test"], unit=unit, seed=seed)


def fit(model: Model, step: Callable[..., None], validated: Callable[[], float], data: tuple[Inputs, Tensor]) -> None:
    """Train, and keep the parameters of the best epoch after warm-up."""
    best, state = float("inf"), deepcopy(model.state_dict())
    x, y = data
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            step({m: v[rows] for m, v in x.items()}, y[rows], calibrated=epoch >= WARMUP)
        validation_loss = validated()
        if epoch >= WARMUP and validation_loss < best:
            best, state = validation_loss, deepcopy(model.state_dict())
    model.load_state_dict(state)


def tested(
    fused: Callable[[Inputs], Tensor],
    score: RegressionScore,
    qhat: Tensor,
    data: tuple[Inputs, Tensor],
    *,
    unit: float,
    seed: int,
) -> dict[str, float]:
    """Return the figures of the test rows, in units of the target."""
    x, y = data
    noise = {m: torch.randn(v.shape, generator=torch.Generator().manual_seed(seed)) for m, v in x.items()}
    figures = {}
    for condition in ("clean", *COLUMNS):
        predicted = fused({m: v + noise[m] if m == condition else v for m, v in x.items()})
        figures[f"{condition} error"] = unit * float((score.point(predicted) - y).abs().mean())
        low, high = score.interval(predicted, qhat).unbind(-1)
        if condition == "clean":
            figures["coverage"] = float(((low <= y) & (y <= high)).double().mean())
            figures["width"] = unit * float((high - low).mean())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, metavar="CSV", help="also write a line for each run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for score in SCORES:
        runs = {method: [train(method, score, seed) for seed in range(options.seeds)] for method in METHODS}
        print(f"\n{score}, {options.seeds} seeds: mean absolute error, coverage for a target of {1 - ALPHA:g}\n")
        columns = ("clean", "difference", "body noisy", "difference", "serum noisy", "difference", "coverage", "width")
        print(header("", *columns))
        for method, of in runs.items():
            cells = []
            for column in ("clean error", "body error", "serum error"):
                values, plain = ([run[column] for run in each] for each in (of, runs["joint + unimodal"]))
                cells.append(f"{np.mean(values):.1f}")
                cells.append("" if method == "joint + unimodal" else difference(values, plain))
            cells.append(f"{np.mean([run['coverage'] for run in of]):.3f}")
            cells.append(f"{np.mean([run['width'] for run in of]):.0f}")
            print(f"| {method} | {' | '.join(cells)} |", flush=True)
            lines += [[score, method, seed, *(f"{v:.5g}" for v in run.values())] for seed, run in enumerate(of)]
    if options.out is not None:
        write_csv(options.out, ["score", "method", "seed", *FIGURES], lines)


if __name__ == "__main__":
    main()
