"""The benchmark of training on CUDA: two ResNet18 streams in float32, in bf16, and with CUDA graphs.

python benchmarks/gpu.py [--rounds 3 --variants joint "CPSC, rolling"]      options of benchmarks/train/run.py
"""

import importlib.util
import sys
from pathlib import Path

import torch

SETTINGS = {
    "float32": [],
    "bf16, channels last": ["compute.precision=bf16", "compute.channels_last=true"],
    "bf16, channels last, CUDA graphs": [
        "compute.precision=bf16",
        "compute.channels_last=true",
        "compute.compile=reduce-overhead",
    ],
}


def main() -> int:
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device")
        return 0
    spec = importlib.util.spec_from_file_location("train_benchmark", Path(__file__).parent / "train" / "run.py")
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    print(torch.cuda.get_device_name())
    for name, settings in SETTINGS.items():
        print(f"\n## {name}")
        options = [part for one in settings for part in ("--set", one)]
        benchmark.main(["--workloads", "resnet18", "--device", "cuda", "--rows", "6400", *options, *sys.argv[1:]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
