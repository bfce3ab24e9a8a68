"""Two gloo processes that share each batch train the same model as one process that has all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCENARIOS = ["loss-1", "loss-2", "add-1", "add-2", "scale-1", "scale-2", "trunk", "uneven", "own-group"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, worker = tmp_path_factory.mktemp("ddp"), Path(__file__).with_name("ddp_worker.py")
    runs = {"alone": (0, 1), "first": (0, 2), "second": (1, 2)}
    processes = [
        subprocess.Popen(
            [sys.executable, worker, str(rank), str(world), folder / "store", folder / f"{name}.pt"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, (rank, world) in runs.items()
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in runs}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_processes_equal_one(trained, scenario):
    for process in ("first", "second") if scenario != "own-group" else ("first",):  # the second has other samples
        torch.testing.assert_close(trained[process][scenario], trained["alone"][scenario], rtol=0, atol=1e-9)


def test_hook_equals_loss_and_differs_from_scaling(trained):
    for pieces in (1, 2):
        torch.testing.assert_close(
            trained["first"][f"add-{pieces}"], trained["first"][f"loss-{pieces}"], rtol=0, atol=1e-9
        )
    weight = "encoders.audio.0.weight"
    assert not torch.allclose(trained["first"]["scale-1"][weight], trained["first"]["add-1"][weight])


def test_every_scenario_is_looked_at(trained):
    assert sorted(trained["alone"]) == sorted(SCENARIOS)
