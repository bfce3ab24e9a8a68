"""What the package promises beside its results: imports, compilation, no waiting for a device, memory."""

import importlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from conformal_core import (
    APS,
    LAC,
    RAPS,
    SAPS,
    CalibrationBuffer,
    Margin,
    conformal_quantile,
    p_values,
    prediction_set,
    rank_reliability,
)


def test_importing_it_brings_in_nothing_heavy():
    code = (
        "import sys, conformal_core\n"
        "heavy = {'torch', 'torchvision', 'scipy', 'pandas', 'sklearn', 'jax', 'matplotlib'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def step(probs, labels, buffer_scores):
    """One pass of a training loop through the package, without checks."""
    score = LAC()
    qhat = conformal_quantile(buffer_scores, alpha=0.1, check=False)
    scores = score(probs, check=False)
    sets = prediction_set(scores, qhat, check=False)
    reliability = rank_reliability(scores, labels, qhat, check=False)
    return score(probs, labels, check=False), sets, reliability


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def batch(torch):
    rng = np.random.default_rng(0)
    probs = torch.from_numpy(rng.dirichlet(np.ones(7), size=(4, 5)))
    return probs, torch.from_numpy(rng.integers(0, 7, (4, 5))), torch.from_numpy(rng.random(30))


@pytest.mark.newer_torch
def test_a_step_compiles_into_one_graph(torch):
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for plain, traced in zip(step(*batch(torch)), compiled(*batch(torch)), strict=True):
        assert torch.equal(plain, traced)


def test_aps_compiles_into_one_graph(torch):
    probs, labels, _ = batch(torch)

    def scored(probs, labels):
        return APS()(probs, check=False), APS()(probs, labels, check=False)

    for plain, traced in zip(
        scored(probs, labels), torch.compile(scored, fullgraph=True, backend="aot_eager")(probs, labels), strict=True
    ):
        assert torch.allclose(plain, traced, atol=1e-15)


def test_nothing_waits_for_a_device(torch):
    """A value that is read on the host appears as one operation; there must be none without checks.

    Rows with a gradient take the way that rows on a device take; others on a CPU are worked on as numpy arrays.
    """
    mode = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode

    class NoReading(mode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(func), f"{func} waits for the device"
            assert "nonzero" not in str(func), f"{func} has a size that depends on values"
            return func(*args, **(kwargs or {}))

    probs, labels, scores = batch(torch)
    probs.requires_grad_()
    buffer = CalibrationBuffer(30, like=scores)
    with NoReading():
        for score in (APS(), RAPS(), SAPS(), Margin()):
            score(probs, check=False)
            score(probs, labels, check=False)
        step(probs, labels, scores)
        buffer.overwrite(torch.arange(10), scores[:10], check=False)
        buffer.advance()
        buffer.quantile(alpha=0.1)
        buffer.staleness  # noqa: B018
        with pytest.raises(AssertionError, match="waits for the device"):  # and the guard does see a look
            LAC()(probs, check=True)


def test_results_keep_library_dtype_and_gradient(torch):
    probs = torch.full((2, 4), 0.25).requires_grad_()
    scores = LAC()(probs)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert torch.equal(probs.grad, torch.full((2, 4), -1.0))
    half = torch.full((2, 4), 0.25, dtype=torch.bfloat16)
    assert LAC()(half).dtype == torch.bfloat16
    assert bool(LAC().sets(half, 0.75).all())


def test_p_values_of_a_large_matrix_need_memory_for_it_and_not_for_its_product_with_the_calibration_set():
    rng = np.random.default_rng(0)
    calibration, scores = rng.random(10_000), rng.random((5000, 100))
    tracemalloc.start()
    p_values(calibration, scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * scores.nbytes  # all pairs would be 10,000 times as much


def test_sets_of_a_large_matrix_need_little_memory_beside_the_result():
    probs = np.random.default_rng(0).dirichlet(np.ones(100), size=20_000).astype(np.float32)
    tracemalloc.start()
    sets = LAC().sets(probs, 0.9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sets.nbytes * 2 + 8e6
