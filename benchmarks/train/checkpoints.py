"""Seconds for which the training loop waits at a checkpoint: written in the background, and by the loop itself.

    python benchmarks/train/checkpoints.py --megabytes 100

The state is that of a run with an MLP of that size and Adam. Both variants write the same tensors to the same disk and
wait until they are stored; the previous background write ends before the next measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from timing import medians

from cpsc_train.config import apply_settings
from cpsc_train.recipes import recipe
from cpsc_train.training import checkpoint
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

BYTES_PER_NEURON = 4 * (76 + 1 + 64)
"""Of the hidden layer of the MLP, with 76 inputs and 64 outputs."""


def trained_once(megabytes: float) -> Trainer:
    """Return a trainer whose optimizer has a state."""
    hidden = int(megabytes * 1e6 / BYTES_PER_NEURON)
    config = apply_settings(recipe("handwritten"), [f"encoders.fou.hidden={hidden}", "compute.device=cpu"])
    trainer = Trainer(Setup.build(config))
    for parameter in trainer.objective.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    trainer.stepper.optimizer.step()
    return trainer


def main() -> None:
    """Measure both, and print a row of a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100, help="size of the parameters")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    trainer = trained_once(options.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", 2, Process())
        jobs = {
            "in the background": lambda: checkpoints.save(0, trainer.state_dict()),
            "by the loop": lambda: checkpoint.save(Path(folder) / "checkpoint.pt", trainer.state_dict()),
        }
        seconds = medians(jobs, options.rounds, before=checkpoints.wait)
        checkpoints.wait()
    print(f"| {options.megabytes:g} MB of parameters | waits, s | ratio |\n|---|---|---|")
    for name, median in seconds.items():
        print(f"| {name} | {median:.2f} | {median / seconds['in the background']:.1f} |")


if __name__ == "__main__":
    main()
