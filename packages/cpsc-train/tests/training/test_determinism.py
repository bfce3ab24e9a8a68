"""The same run twice, and with 0, 1 and 2 loader workers: the same bits in parameters, quantiles and predictions."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow


def train(folder, quick, *, seed=0, workers=0):
    """Train in a process of its own; return a hash of the parameters, the quantiles and the predictions."""
    command = [sys.executable, "-m", "cpsc_train", "train", "-q", *quick, "--seed", str(seed), "--out", str(folder)]
    subprocess.run([*command, "--set", f"compute.workers={workers}"], check=True, capture_output=True)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    digest = hashlib.sha256()
    for part in ("model", "method", "qhat"):
        for name, tensor in sorted((state[part] or {}).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    with np.load(folder / "predictions.npz") as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()


def test_a_run_is_the_same_to_the_last_bit(tmp_path, quick):
    same = {train(tmp_path / f"again-{number}", quick) for number in range(3)}
    same |= {train(tmp_path / f"workers-{workers}", quick, workers=workers) for workers in (1, 2)}
    assert len(same) == 1
    assert train(tmp_path / "other", quick, seed=1) not in same
