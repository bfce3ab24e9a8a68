"""The same run ten times, and with 0, 1 and 2 processes that read: the same bits in its checkpoint and predictions.

Each run is a process of its own. About two minutes.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch


def digest(run: Path) -> str:
    """Return a hash of the kept parameters and of what they say of the test rows."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    made = hashlib.sha256()
    for part in ("model", "method", "qhat"):
        for name, tensor in sorted((state[part] or {}).items()):
            made.update(name.encode() + tensor.numpy().tobytes())
    with np.load(run / "predictions.npz") as arrays:
        for name in sorted(arrays.files):
            made.update(name.encode() + arrays[name].tobytes())
    return made.hexdigest()[:16]


def train(out: Path, seed: int, workers: int) -> str:
    """Train for three epochs in a process of its own; return what came out."""
    command = [
        sys.executable,
        "-m",
        "cpsc_train",
        "train",
        "-q",
        "--epochs",
        "3",
        "--seed",
        str(seed),
        "--out",
        str(out),
    ]
    command += ["--set", "method.warmup=1", "--set", f"compute.workers={workers}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return digest(out)


def main() -> int:
    """Train, print a line for each kind, and return 1 if a bit differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    repeats = 3 if options.quick else 10
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        again = {train(folder / f"again-{i}", options.seed, 0) for i in range(repeats)}
        read = again | {train(folder / f"workers-{n}", options.seed, n) for n in (1, 2)}
        other = train(folder / "other", options.seed + 1, 0)
    failed = 0
    for name, tried, right in (
        ("repeats", repeats, len(again) == 1),
        ("0, 1, 2 workers", 3, len(read) == 1),
        ("another seed differs", 1, other not in read),
    ):
        failed += not right
        print(f"{name:<24}{tried:>4}  {'ok' if right else 'FAILED'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
