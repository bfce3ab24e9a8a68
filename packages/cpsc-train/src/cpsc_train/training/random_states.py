"""States of the random generators of a process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Return the states of all random generators of this process, as tensors and numbers."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # modules of users may draw from it
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(state: dict[str, Any]) -> None:
    """Set the states that `random_states` returned, perhaps on a machine with another number of GPUs."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    for index, one in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(one.cpu(), index)


def seed_all(*entropy: int) -> None:
    """Seed all random generators from numbers that together are used once, such as seed, epoch, step and rank."""
    python, numpy, of_torch = map(int, np.random.SeedSequence(entropy).generate_state(3))
    random.seed(python)
    np.random.seed(numpy)  # noqa: NPY002
    torch.manual_seed(of_torch)
