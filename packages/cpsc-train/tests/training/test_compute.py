"""Number of worker processes, and limits of numbers."""

import os

import pytest

from cpsc_train.recipes import RECIPES, recipe
from cpsc_train.training.compute import ComputeConfig


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (2, 1), (3, 2), (9, 8), (64, 8)])
def test_as_many_processes_read_as_there_are_cores_beside_training(monkeypatch, count, workers):
    monkeypatch.setattr("cpsc_train.training.compute.cores", lambda: count)
    assert ComputeConfig().worker_count(decoding=True) == workers
    assert ComputeConfig().worker_count(decoding=False) == 0
    assert {ComputeConfig(workers=5).worker_count(decoding=decoding) for decoding in (True, False)} == {5}


def test_processes_of_a_job_share_the_cores(monkeypatch):
    monkeypatch.setattr("cpsc_train.training.compute.cores", lambda: 8)
    job = {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "a", "MASTER_PORT": 1}
    for name, value in job.items():
        monkeypatch.setenv(name, str(value))
    assert ComputeConfig().worker_count(decoding=True) == 3


def test_no_recipe_asks_for_a_number():
    """Except those of tables, which keep decoded samples in the memory of one process."""
    names = [name for name in RECIPES if not name.startswith("table")]
    assert {name: recipe(name).compute.workers for name in names} == dict.fromkeys(names)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores of a process are not known here")
def test_cores_are_those_of_the_process(monkeypatch):
    from cpsc_train.data.processes import cores  # noqa: PLC0415

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert cores() == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size=999999999999", "batch_size must be below 2^31, got 999999999999"),
        ("feature_dim=9999999999999999999999", "feature_dim must be below 2^63"),
        ("epochs=0", "epochs must be at least 1, got 0"),
        ("compute.threads=99999999999", "compute.threads must be at most 4096, got 99999999999"),
        ("compute.threads=10000000", "compute.threads must be at most 4096"),
    ],
)
def test_numbers_that_no_library_takes_are_refused(cpsc, setting, message):
    outcome = cpsc("train", "--set", setting)
    assert (outcome.code, message in outcome.err, outcome.err.count("\n")) == (2, True, 1)
