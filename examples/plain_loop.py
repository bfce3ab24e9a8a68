"""RSC and GSC in a plain PyTorch training loop; the added lines are marked ``# +``."""

import torch
from ordinary import LateFusion, draw_labels, draw_signal
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, StackDataset

from conformal_core import LAC, conformal_quantile, prediction_set, set_size  # +
from cpsc_gsc import gsc_loss  # +
from cpsc_rsc import MultimodalSelfCalibration  # +

DIMS = {"audio": 32, "image": 48}


def data(count: int, seed: int) -> StackDataset:
    """Draw samples: audio vectors of width 20, which are noisier, and image vectors of width 30."""
    labels = draw_labels(count, seed)
    audio = draw_signal(labels, (20,), noise=3.0, seed=seed + 1)
    image = draw_signal(labels, (30,), noise=2.0, seed=seed + 2)
    return StackDataset(x=StackDataset(audio=audio, image=image), label=labels)


def main(epochs: int = 12, warmup: int = 3) -> dict[str, float]:
    """Train; return accuracy, and coverage and mean size of the fused prediction sets, on a test set."""
    torch.manual_seed(0)
    encoders = {
        "audio": nn.Sequential(nn.Linear(20, DIMS["audio"]), nn.ReLU()),
        "image": nn.Sequential(nn.Linear(30, DIMS["image"]), nn.ReLU()),
    }
    model = LateFusion(encoders, DIMS)
    rsc = MultimodalSelfCalibration(DIMS)  # +
    optimizer = torch.optim.Adam([*model.parameters(), *rsc.parameters()], lr=3e-3)
    loader = DataLoader(data(400, seed=0), batch_size=50, shuffle=True)
    calibration = next(iter(DataLoader(data(200, seed=10), batch_size=200)))  # +
    test = next(iter(DataLoader(data(400, seed=20), batch_size=400)))

    @torch.no_grad()
    def calibrate() -> dict[str, torch.Tensor]:
        logits, fused = model.classify(model.features(calibration["x"]))  # +
        scores = {m: LAC()(z.softmax(-1), calibration["label"]) for m, z in (logits | {"fused": fused}).items()}  # +
        return {m: conformal_quantile(s, alpha=0.1) for m, s in scores.items()}  # +

    for epoch in range(epochs):
        qhat = calibrate()  # +
        for batch in loader:
            labels, features = batch["label"], model.features(batch["x"])
            if epoch < warmup:
                logits, fused = model.classify(features)
                loss = cross_entropy(fused, labels) + sum(cross_entropy(z, labels) for z in logits.values())
            else:
                out = rsc(features, labels, heads=model.heads, qhat=qhat)  # +
                logits, fused = model.classify({m: o.recomposed for m, o in out.items()})  # +
                loss = cross_entropy(fused, labels) + sum(o.divergence for o in out.values())  # +
                loss = loss + gsc_loss(logits, labels, fused_logits=fused, qhat=qhat)  # +
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        _, fused = model.classify(model.features(test["x"]))
    sets = prediction_set(LAC()(fused.softmax(-1)), calibrate()["fused"])  # +
    return {
        "accuracy": (fused.argmax(-1) == test["label"]).float().mean().item(),
        "coverage": sets.gather(1, test["label"].unsqueeze(1)).float().mean().item(),
        "set size": set_size(sets).float().mean().item(),
    }


if __name__ == "__main__":
    print(main())
