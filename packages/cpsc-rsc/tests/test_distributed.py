import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_equal_one_on_the_same_global_batch(tmp_path):
    def start(rank, world, target):
        command = [sys.executable, WORKER, str(rank), str(world), tmp_path / "store", tmp_path / target]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    processes = [start(0, 2, "two"), start(1, 2, "two"), start(0, 1, "one")]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    one, *two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.0", "two.0", "two.1"))
    for other in two:
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-12, atol=1e-12)
