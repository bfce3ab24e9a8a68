"""What becomes of the variables of a launcher, when they describe a job and when they do not."""

import re

import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.launch import Launch, is_main_process
from cpsc_train.training.compute import own_gpu

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
JOB = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}

BAD = {
    "empty": (
        {"WORLD_SIZE": ""},
        "WORLD_SIZE must be a whole number of at least 1, got '': start the processes by torchrun, which sets it, or ",
    ),
    "word": ({"WORLD_SIZE": "abc"}, "WORLD_SIZE must be a whole number of at least 1, got 'abc'"),
    "none": ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number of at least 1, got '0'"),
    "negative": ({"WORLD_SIZE": "-2"}, "WORLD_SIZE must be a whole number of at least 1, got '-2'"),
    "superscript": ({"WORLD_SIZE": "²"}, "WORLD_SIZE must be a whole number"),
    "ten digits": ({"WORLD_SIZE": "1000000000"}, "WORLD_SIZE must be a whole number of at least 1, got '1000000000'"),
    "long": ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE must be a whole number"),
    "rank alone": ({"RANK": "1"}, "RANK must be below WORLD_SIZE, which is 1 because it is not set, got '1'"),
    "rank empty": ({"RANK": ""}, "RANK must be a whole number of at least 0, got ''"),
    "rank too large": (JOB | MEETING | {"RANK": "4"}, "RANK must be below WORLD_SIZE, which is 4, got '4'"),
    "rank negative": (JOB | MEETING | {"RANK": "-1"}, "RANK must be a whole number of at least 0, got '-1'"),
    "rank absent": ({"WORLD_SIZE": "2"} | MEETING, "means 2 processes, but these are not set: RANK"),
    "no address": (JOB, "means 4 processes, but these are not set: MASTER_ADDR, MASTER_PORT"),
    "port": (JOB | MEETING | {"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number of at least 0, got 'http'"),
    "large port": (
        JOB | MEETING | {"MASTER_PORT": "65536"},
        "MASTER_PORT must be below the number of ports, which is 65536",
    ),
    "local rank": ({"LOCAL_RANK": "x"}, "LOCAL_RANK must be a whole number of at least 0, got 'x'"),
    "local rank too large": (
        JOB | MEETING | {"LOCAL_RANK": "2"},
        "LOCAL_RANK must be below LOCAL_WORLD_SIZE, which is 2",
    ),
    "local world": (JOB | MEETING | {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE must be a whole number of at least 1"),
}


@pytest.fixture
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.mark.parametrize(("values", "said"), BAD.values(), ids=BAD)
def test_an_environment_that_describes_no_job_is_one_sentence(environment, cpsc, tmp_path, values, said):
    environment(values)
    with pytest.raises(UserError, match=re.escape(said)):
        Launch.read()
    found = cpsc("train", "--out", tmp_path / "run")
    assert found.code == 2
    assert found.err.startswith("cpsc: error: ")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_torchrun_sets_is_read(environment):
    assert Launch.read() == Launch()
    environment({"WORLD_SIZE": "1", "RANK": "0"})
    assert Launch.read() == Launch()
    environment(JOB | MEETING)
    assert Launch.read() == Launch(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert not is_main_process()
    environment({"RANK": "0"})
    assert is_main_process()


def test_a_launcher_may_leave_the_machine_out(environment):
    environment({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"} | MEETING)
    assert Launch.read() == Launch(rank=1, world_size=2, local_rank=1, local_world_size=2)


def test_a_process_without_a_gpu_of_its_own_is_told(environment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    environment({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    with pytest.raises(UserError, match="LOCAL_RANK must be below the number of GPUs, 1, got '1'"):
        own_gpu()
