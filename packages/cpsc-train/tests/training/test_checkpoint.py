import os
import pickle
import random
import shutil
import signal
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.training import checkpoint

CPU = torch.device("cpu")
STATE = {"model": {"w": torch.arange(3.0)}, "qhat": {"a": torch.tensor(0.5)}, "epoch": 3}


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_memory_that_runs_out_does_not_make_a_checkpoint_unreadable(tmp_path, monkeypatch):
    """Or users would remove a valid file."""
    checkpoint.save(tmp_path / "a.pt", {})

    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="not enough memory"):
        checkpoint.load(tmp_path / "a.pt", torch.device("cpu"))


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)
    back = checkpoint.load(path, CPU)
    assert back["epoch"] == 3
    assert torch.equal(back["model"]["w"], STATE["model"]["w"])
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"c\.pt: cannot be written \(No space left on device\)"):
        checkpoint.save(path, STATE | {"epoch": 4})
    assert checkpoint.load(path, CPU)["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"c\.pt: cannot be written \(No such file or directory\)"):
        checkpoint.save(tmp_path / "gone" / "c.pt", STATE)


def test_an_error_of_torch_does_not_hide_a_full_disk(tmp_path, monkeypatch):
    def full(_state, _file):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"c\.pt: cannot be written \(No space left on device\)"):
        checkpoint.save(tmp_path / "c.pt", STATE)


def test_files_left_by_a_killed_write_are_removed(tmp_path):
    (tmp_path / "step-00000003.partial").write_bytes(b"a write that was killed")
    checkpoint.Checkpoints(tmp_path, keep=2).save(4, STATE)
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000004.pt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.checkpoints: cannot be written \("):
        checkpoint.Checkpoints(tmp_path / "file/checkpoints", keep=2).save(4, STATE)


class Signalling:
    """Sends a signal to the process where torch writes it."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        signal.raise_signal(self.number)
        return OrderedDict, ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_within_a_write_is_handled_after_it(tmp_path, number):
    def stop(_number, _frame):
        raise KeyboardInterrupt

    path = tmp_path / "c.pt"
    handler = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, STATE | {"late": Signalling(number)})
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, handler)
    assert checkpoint.load(path, CPU)["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_can_be_written_outside_the_main_thread(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(checkpoint.save, tmp_path / "c.pt", STATE).result()
    assert checkpoint.load(tmp_path / "c.pt", CPU)["epoch"] == 3


def test_an_untrusted_checkpoint_cannot_run_code(tmp_path):
    target = tmp_path / "created-by-the-bomb"
    for name, write in (
        ("torch.pt", lambda path: torch.save({"model": Bomb(target)}, path)),
        ("pickle.pt", lambda path: path.write_bytes(pickle.dumps({"model": Bomb(target)}))),
    ):
        write(tmp_path / name)
        with pytest.raises(UserError, match="is not a readable checkpoint"):
            checkpoint.load(tmp_path / name, CPU)
    assert not target.exists()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"epoch": 1, "model": {}, "method": {}},
        {"epoch": "1", "model": {}, "method": {}, "qhat": None},
        {"epoch": 1, "model": {"w": 1}, "method": {}, "qhat": None},
        {"epoch": 1, "model": {}, "method": {}, "qhat": {"fused": True}},
        {"epoch": 1, "model": {}, "method": {}, "qhat": {"fused": torch.tensor([0.5])}},
        {"epoch": 1, "model": {}, "method": {}, "qhat": {"fused": torch.tensor(float("nan"))}},
        {"epoch": 1, "model": {}, "method": {}, "qhat": {"fused": torch.tensor(1)}},
        {"epoch": 1, "model": {}, "method": {}, "qhat": {1: torch.tensor(0.5)}},
        {"epoch": 1, "model": {2: torch.zeros(1)}, "method": {}, "qhat": None},
        {"epoch": 1, "model": {}, "method": None, "qhat": None},
        {"epoch": True, "model": {}, "method": {}, "qhat": None},
    ],
)
def test_best_parameters_that_hold_something_else(tmp_path, state):
    torch.save({"format": checkpoint.FORMAT} | state, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt: must hold epoch, model, method and qhat"):
        checkpoint.load_best(tmp_path / "checkpoint.pt", CPU)


@pytest.mark.parametrize("qhat", [None, {"fused": torch.tensor(0.5)}])
def test_best_parameters_come_back(tmp_path, qhat):
    checkpoint.save(tmp_path / "c.pt", STATE | {"method": {}, "qhat": qhat})
    back = checkpoint.load_best(tmp_path / "c.pt", CPU)
    assert (back["epoch"], back["qhat"]) == (3, qhat)


def test_no_setting_of_torch_lets_a_checkpoint_run_code(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    target = tmp_path / "created-by-the-bomb"
    torch.save({"format": checkpoint.FORMAT, "model": Bomb(target)}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        checkpoint.load(tmp_path / "c.pt", CPU)
    assert not target.exists()


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"c\.pt: is not a readable checkpoint"):
        checkpoint.load(path, CPU)


def test_other_contents_and_absence_are_named(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="must hold a table of states, got Tensor"):
        checkpoint.load(tmp_path / "tensor.pt", CPU)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "absent.pt", CPU)


def test_the_newest_few_are_kept(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=2)
    assert checkpoints.newest(CPU) is None
    for step in (7, 30, 100, 9):
        checkpoints.save(step, STATE | {"epoch": step})
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000030.pt",
        "step-00000100.pt",
    ]
    assert checkpoints.newest(CPU)["epoch"] == 100
    assert checkpoints.newest(torch.device("meta"))["model"]["w"].device.type == "meta"


def test_of_an_unreadable_one_the_one_before_is_named(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(step, STATE)
    (tmp_path / "step-00000002.pt").write_bytes(b"half")
    (tmp_path / "step-00000003.partial").write_bytes(b"a write that was killed")
    with pytest.raises(UserError, match=r"00002\.pt: is not a readable .* to continue from step-00000001\.pt"):
        checkpoints.newest(CPU)
    (tmp_path / "step-00000001.pt").unlink()
    with pytest.raises(UserError, match=r"step-00000002\.pt: is not a readable checkpoint \(.*\)$"):
        checkpoints.newest(CPU)


def drawn():
    return [random.random(), np.random.random(), torch.rand(1).item()]  # noqa: NPY002, S311


def test_every_source_of_randomness_comes_back(tmp_path):
    checkpoint.save(tmp_path / "c.pt", {"random": checkpoint.random_states()})
    first = drawn()
    checkpoint.set_random_states(checkpoint.load(tmp_path / "c.pt", CPU)["random"])
    assert first == drawn()


@pytest.mark.parametrize("format_", [0, 2, None])
def test_another_format_is_refused_by_name(finished, tmp_path, cpsc, format_):
    folder = shutil.copytree(finished, tmp_path / "run")
    for file in (folder / "checkpoint.pt", *folder.glob("checkpoints/*.pt")):
        torch.save(torch.load(file, weights_only=True) | {"format": format_}, file)
    rule = f"must have format {checkpoint.FORMAT}, got {format_}: it was written by another version of cpsc-train"
    outcome = cpsc("evaluate", folder)
    assert (outcome.code, rule in outcome.err, "checkpoint.pt" in outcome.err) == (2, True, True)
    (folder / "results.json").unlink()
    outcome = cpsc("train", "--resume", folder)
    assert (outcome.code, rule in outcome.err, "step-" in outcome.err) == (2, True, True)


def test_states_of_gpus_come_back(monkeypatch):
    states, restored = [torch.arange(4, dtype=torch.uint8), torch.arange(2, dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    state = checkpoint.random_states()
    checkpoint.set_random_states(state)
    assert all(map(torch.equal, restored, states))
    assert len(restored) == 2
    checkpoint.set_random_states(state | {"cuda": []})  # of a run on the CPU
    assert len(restored) == 2
