"""Cost of trust relative to a forward pass of an encoder, eager and compiled, on a CPU or a GPU.

    python benchmarks/selfcalibration/trust.py [--encoder efficientnet-lite0 --device cuda --batch 64 --rounds 200]

One modality: the encoder alone, and with activations tapped at two depths and trust in its features. Times are
medians of rounds in which every variant runs once, in turn, in one process: compare ratios.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians

from cpsc_rsc import ConformalTrust, TappedEncoder, Taps

ROWS = 1000
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
COMPILERS = {"eager": None, "compiled": "default", "CUDA graph": "reduce-overhead"}


def resnet() -> nn.Module:
    encoder = resnet18(weights=None)
    encoder.fc = nn.Identity()
    return encoder


def efficientnet_lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415  # an extra of cpsc-train

    encoder: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    encoder._fc = nn.Identity()
    return encoder


ENCODERS = {"resnet18": resnet, "efficientnet-lite0": efficientnet_lite0}


def fitted(taps: Taps, encoder: nn.Module, images: Tensor) -> ConformalTrust:
    """Return trust whose distances are fitted to Gaussian activations of the widths of the encoder."""
    torch.manual_seed(0)
    widths = taps.widths(encoder, images[:2])
    trust = ConformalTrust({"image": widths}).to(images.device)
    training, held_out = (tuple(torch.randn(ROWS, d, device=images.device) for d in widths) for _ in range(2))
    trust.update({"image": training})
    trust.calibrate({"image": held_out})
    return trust.eval()


class Trusted(nn.Module):
    """An encoder with taps, followed by trust."""

    def __init__(self, encoder: nn.Module, trust: ConformalTrust) -> None:
        super().__init__()
        self.encoder, self.trust = TappedEncoder(encoder), trust

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted features."""
        features, depths = self.encoder(x)
        return self.trust({"image": features}, {"image": depths})["image"]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=list(ENCODERS), default="resnet18")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{arguments.encoder}, batch {arguments.batch} at 224 x 224; {name}, torch {torch.__version__}")
    encoder = ENCODERS[arguments.encoder]().to(device).eval()
    images = torch.randn(arguments.batch, 3, 224, 224, device=device)
    taps = Taps(encoder)
    trust = fitted(taps, encoder, images)
    for how, mode in COMPILERS.items():
        if mode == "reduce-overhead" and not on_gpu:
            continue
        for precision, dtype in PRECISIONS.items():
            if dtype and not on_gpu:
                continue

            def ready(module: nn.Module, mode: str | None = mode) -> nn.Module:
                return torch.compile(module, mode=mode) if mode else module

            torch.compiler.reset()
            variants = {"encoder": ready(encoder), "with trust": ready(Trusted(encoder, trust))}
            with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                calls = {n: lambda run=run: (run(images), wait()) for n, run in variants.items()}
                if mode is None:
                    _, depths = taps(encoder, images)
                    calls["trust"] = lambda depths=depths: (trust.weights({"image": depths}), wait())
                seconds = medians(calls, arguments.rounds, before=wait, warmup=10)
            t = {name: 1e3 * one for name, one in seconds.items()}
            alone = (
                f", weights alone {t['trust']:.3f} ms = {100 * t['trust'] / t['encoder']:.1f} %" if "trust" in t else ""
            )
            more = 100 * (t["with trust"] / t["encoder"] - 1)
            print(
                f"{how}, {precision}: encoder {t['encoder']:.3f} ms, with trust {more:+.1f} %{alone}",
                flush=True,
            )


if __name__ == "__main__":
    main()
