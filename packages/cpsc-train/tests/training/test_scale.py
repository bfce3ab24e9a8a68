"""Memory and collectives of many GPUs: a simulated step against the arithmetic, for a small model."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "scale" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="benchmarks are in the repository alone")
def test_a_simulated_step_costs_what_the_arithmetic_says():
    pytest.importorskip("torchvision")
    pytest.importorskip("transformers")
    command = [sys.executable, SCRIPT, "--quick", "--simulate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| parameters, DDP", "| gradients, DDP"))]
    assert len(rows) == 2
    assert all(row.endswith("| +0.00 % | 0.01 % | yes |") for row in rows)
