"""Train in two processes for a step, and save the quantiles of each to a folder: `lightning_worker.py FOLDER`."""

import sys
from pathlib import Path

import torch

from cpsc_rsc.callbacks.lightning import QuantileCallback
from frameworks import loader
from test_lightning import Module, trainer


def main(folder):
    torch.manual_seed(0)
    module = Module()
    callback = QuantileCallback(loader(50, 1), every_n_steps=99)
    running = trainer(callback, max_steps=1, enable_checkpointing=False, devices=2, strategy="ddp")
    running.fit(module, loader(200, 0))
    torch.save(module.qhat(), folder / f"{running.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
