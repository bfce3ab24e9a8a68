"""Two torchvision ResNet18 streams, colour and depth; GSC is an optimizer hook, so the loss needs no term for it."""

import torch
from ordinary import LateFusion, draw_labels, draw_signal
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from conformal_core import LAC, conformal_quantile
from cpsc_gsc import GradientSelfCalibration
from cpsc_rsc import MultimodalSelfCalibration

DIMS = {"colour": 512, "depth": 512}


def stream(channels: int) -> nn.Module:
    """Return a ResNet18 with `channels` input channels that outputs its 512 pooled features."""
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return network


def data(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw small colour and depth images; depth is noisier."""
    labels = draw_labels(count, seed)
    colour = draw_signal(labels, (3, 32, 32), noise=1.0, seed=seed + 1)
    depth = draw_signal(labels, (1, 32, 32), noise=2.0, seed=seed + 2)
    return {"colour": colour, "depth": depth}, labels


def main(epochs: int = 3, warmup: int = 1) -> dict[str, float]:
    """Train; return the accuracy on a test set."""
    torch.manual_seed(0)
    model = LateFusion({"colour": stream(3), "depth": stream(1)}, DIMS)
    rsc = MultimodalSelfCalibration(DIMS, residual=0.05)
    optimizer = torch.optim.Adam([*model.parameters(), *rsc.parameters()], lr=1e-3)
    gsc = GradientSelfCalibration(encoders=dict(model.encoders)).attach(optimizer)
    train, calibration, test = data(96, seed=0), data(64, seed=10), data(64, seed=20)

    @torch.no_grad()
    def calibrate() -> dict[str, Tensor]:
        model.eval()  # leave the batch-norm statistics unchanged
        logits, _ = model.classify(model.features(calibration[0]))
        model.train()
        return {m: conformal_quantile(LAC()(z.softmax(-1), calibration[1]), alpha=0.2) for m, z in logits.items()}

    for epoch in range(epochs):
        qhat = calibrate()
        for index in torch.randperm(96).split(16):
            labels, features = train[1][index], model.features({m: x[index] for m, x in train[0].items()})
            if epoch < warmup:
                logits, fused = model.classify(features)
                loss = cross_entropy(fused, labels) + sum(cross_entropy(z, labels) for z in logits.values())
            else:
                out = rsc(features, labels, heads=model.heads, qhat=qhat)
                logits, fused = model.classify({m: o.recomposed for m, o in out.items()})
                loss = cross_entropy(fused, labels) + sum(o.divergence for o in out.values())
                gsc.observe(logits, labels, fused_logits=fused, qhat=qhat)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # the hook adds the modulated unimodal gradients first

    model.eval()
    with torch.no_grad():
        _, fused = model.classify(model.features(test[0]))
    return {"accuracy": (fused.argmax(-1) == test[1]).float().mean().item()}


if __name__ == "__main__":
    print(main())
