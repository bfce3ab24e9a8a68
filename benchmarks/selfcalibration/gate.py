"""Cost of the conformal gate relative to a forward pass of ResNet18, eager and compiled, on a CPU or a GPU.

    python benchmarks/selfcalibration/gate.py [--device cuda --batch 64 --rounds 200]

One modality: the encoder alone, and the gate on its 512 features. Times are medians of rounds in which every variant
runs once, in turn, in one process: compare ratios.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians

from cpsc_rsc import ConformalGate

D, C = 512, 10
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
COMPILERS = {"eager": None, "compiled": "default", "CUDA graph": "reduce-overhead"}


def fitted(device: torch.device) -> ConformalGate:
    """Return a gate fitted on features of the width of ResNet18."""
    torch.manual_seed(0)
    gate = ConformalGate({"image": D}, classes=C).to(device)
    labels = torch.arange(4000, device=device) % C
    centres = 3 * torch.randn(C, D, device=device)
    training, calibration = (centres[labels] + torch.randn(len(labels), D, device=device) for _ in range(2))
    gate.fit({"image": training}, labels, {"image": calibration})
    return gate.eval()


class Gated(nn.Module):
    """An encoder followed by the gate."""

    def __init__(self, encoder: nn.Module, gate: ConformalGate) -> None:
        super().__init__()
        self.encoder, self.gate = encoder, gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated features."""
        return self.gate({"image": self.encoder(x)})["image"]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, batch {arguments.batch} at 224 x 224, {arguments.rounds} rounds")
    encoder = resnet18(weights=None).to(device).eval()
    encoder.fc = nn.Identity()
    gate = fitted(device)
    images = torch.randn(arguments.batch, 3, 224, 224, device=device)
    for how, mode in COMPILERS.items():
        if mode == "reduce-overhead" and not on_gpu:
            continue
        for precision, dtype in PRECISIONS.items():
            if dtype and not on_gpu:
                continue

            def ready(module: nn.Module, mode: str | None = mode) -> nn.Module:
                return torch.compile(module, mode=mode) if mode else module

            torch.compiler.reset()
            variants = {"encoder": ready(encoder), "with gate": ready(Gated(encoder, gate))}
            with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                calls = {n: lambda run=run: run(images) for n, run in variants.items()}
                if mode is None:
                    features = encoder(images)
                    calls["gate"] = lambda features=features: gate({"image": features})
                seconds = medians(calls, arguments.rounds, before=wait, after=wait, warmup=10)
            t = {name: 1e3 * one for name, one in seconds.items()}
            alone = f", gate alone {t['gate']:.3f} ms = {100 * t['gate'] / t['encoder']:.1f} %" if "gate" in t else ""
            more = 100 * (t["with gate"] / t["encoder"] - 1)
            print(
                f"{how}, {precision}: encoder {t['encoder']:.3f} ms, with the gate {more:+.1f} %{alone}",
                flush=True,
            )


if __name__ == "__main__":
    main()
