"""Evaluation of a module in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients, and restore the mode of every submodule afterwards.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> _ = module[1].eval()
    >>> with evaluating(module):
    ...     print(module[0].training)
    False
    >>> module[0].training, module[1].training
    (True, False)
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode
