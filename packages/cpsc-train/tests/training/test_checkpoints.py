"""Checkpoints of one process; those of several are in cli/test_processes.py."""

import os
import pickle
import shutil
import threading
import time

import pytest
import torch

from cpsc_train.config import override
from cpsc_train.errors import UserError
from cpsc_train.reporting import Observer
from cpsc_train.training import checkpoint, resume, tensor_files, train
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process
from cpsc_train.training.nested import mapped
from damage import Bomb

STATE = {
    "model": {"w": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)},
    "scores": [torch.tensor(0.5), (torch.zeros(0, 3), torch.tensor([True, False])), {"deep": torch.arange(2)}],
    "optimizer": {0: {"step": torch.tensor(7.0)}, "lr": 0.1},
    "name": "run",
    "nothing": None,
}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", 2, Process())


def listed(_, tensor):
    return tensor.tolist(), tensor.dtype


def saved(checkpoints, *steps, state=STATE):
    for step in steps:
        checkpoints.save(step, state | {"step": step})
    checkpoints.wait()
    return sorted(checkpoints._folder.iterdir())


def test_a_state_comes_back(checkpoints):
    saved(checkpoints, 1)
    expected, state = (mapped(one, listed) for one in (STATE | {"step": 1}, checkpoints.newest()))
    assert state == expected


def test_a_later_step_does_not_change_what_is_written(checkpoints, monkeypatch):
    """The write starts only after the tensors have changed."""
    changed, write = threading.Event(), tensor_files.Writer.write_data
    monkeypatch.setattr(tensor_files.Writer, "write_data", lambda *a: changed.wait() and write(*a))
    state = {"w": torch.zeros(3), "record": {"names": ["a"]}}
    checkpoints.save(1, state)
    state["w"].fill_(1)
    state["record"]["names"].append("b")
    changed.set()
    checkpoints.wait()
    assert checkpoints.newest()["w"].tolist() == [0, 0, 0]
    assert checkpoints.newest()["record"] == {"names": ["a"]}


def test_the_newest_few_are_kept(checkpoints):
    assert checkpoints.newest() is None
    folders = saved(checkpoints, 7, 30, 100, 9)
    assert [folder.name for folder in folders] == ["step-00000030", "step-00000100"]
    assert checkpoints.newest()["step"] == 100


def test_what_a_killed_process_left_does_not_count_and_is_removed(checkpoints):
    (folder,) = saved(checkpoints, 1)
    shutil.copytree(folder, folder.with_name("step-00000002.partial"))
    assert checkpoints.newest()["step"] == 1
    folder.with_name("step-00000003.partial").write_bytes(b"half")
    assert [folder.name for folder in saved(checkpoints, 4)] == ["step-00000001", "step-00000004"]


def test_the_order_is_that_of_the_steps(checkpoints):
    saved(checkpoints, 99999999)
    assert saved(checkpoints, 100000000)[0].name == "step-100000000"
    assert checkpoints.newest()["step"] == 100000000


def test_a_step_can_be_saved_again(checkpoints):
    assert len(saved(checkpoints, 1, 1)) == 1


def test_the_best_epoch_is_not_lost_unnoticed(small_config, tmp_path):
    run = tmp_path / "run"
    expected = train(small_config, run)
    (run / "results.json").unlink()
    (run / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(UserError, match=r"checkpoint\.pt: is not a readable checkpoint of tensors"):
        resume(run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"checkpoint\.pt: the best epoch is missing: restore it, or remove .*checkpoi"):
        resume(run)
    shutil.rmtree(run / "checkpoints")
    (run / "other.partial").mkdir()  # a run in this folder that was killed as it began
    assert {**resume(run), "seconds": 0} == {**expected, "seconds": 0}


def flipped(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("0.bin", os.remove),
        ("0.bin", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("0.bin", flipped),
        ("state.pt", os.remove),
        ("state.pt", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    ],
)
def test_of_a_damaged_one_the_one_before_is_named(checkpoints, file, damage):
    newest = saved(checkpoints, 1, 2)[-1]
    damage(newest / file)
    with pytest.raises(UserError, match=r"step-00000002.*: remove it to continue from step-00000001$"):
        checkpoints.newest()
    shutil.rmtree(newest)
    assert checkpoints.newest()["step"] == 1
    damage(newest.with_name("step-00000001") / file)
    with pytest.raises(UserError, match=r"step-00000001.*: remove it to continue from the start$"):
        checkpoints.newest()


@pytest.mark.parametrize(
    "change",
    [
        {"index": {}},
        {"index": {"w": [((0,), (3,), 0, 0, 12)]}},
        {"index": {"w": [((0,), (3,), 0, -1, 12, 0)]}},
        {"index": {"w": [((0,), (3,), "../../secret", 0, 12, 0)]}},
        {"index": {"w": [((0,), (2**40,), 0, 0, 2**42, 0)]}, "state": {"w": torch.empty(2**40, device="meta")}},
        {"index": {"w": [((0,), (3,), 0, 0, 12, 0)]}, "state": {"w": torch.empty(2**40, device="meta")}},
        {"index": {"w": [((-1,), (-3,), 0, 0, -12, 0)]}},
        {"index": None},
    ],
)
def test_an_index_that_describes_something_else_is_refused(checkpoints, change):
    (folder,) = saved(checkpoints, 1, state={"w": torch.arange(3.0)})
    content = checkpoint.load(folder / "state.pt", torch.device("cpu"))
    checkpoint.save(folder / "state.pt", content | change)
    with pytest.raises(UserError, match="step-00000001: is not a readable checkpoint"):
        checkpoints.newest()


def test_an_untrusted_checkpoint_cannot_run_code(checkpoints, tmp_path):
    """DCP's own index, a pickle, is never opened."""
    target = tmp_path / "created-by-the-bomb"
    (folder,) = saved(checkpoints, 1)
    (folder / ".metadata").write_bytes(pickle.dumps(Bomb(target)))
    assert checkpoints.newest()["step"] == 1
    for name in ("0.bin", "state.pt"):
        shutil.copyfile(folder / ".metadata", folder / name)
        with pytest.raises(UserError, match="is not a readable checkpoint"):
            checkpoints.newest()
    assert not target.exists()


def full(_number):
    if threading.current_thread().name == "checkpoint":
        raise OSError(28, "No space left on device")


def test_a_failed_write_is_raised_at_the_next_save_and_leaves_the_one_before(checkpoints, monkeypatch):
    saved(checkpoints, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        checkpoints.save(2, STATE)
        with pytest.raises(UserError, match=r"step-00000002\.partial.*: cannot be written \(No space left on device\)"):
            checkpoints.save(3, STATE)
    assert checkpoints.newest()["step"] == 1
    assert [folder.name for folder in saved(checkpoints, 4)] == ["step-00000001", "step-00000004"]


def test_a_failed_write_of_the_last_checkpoint_fails_the_run(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"step-\d{8}\.partial.*: cannot be written \(No space left on device\)"):
        train(override(small_config, {"checkpoints.every_epochs": small_config.epochs}), tmp_path / "run")
    assert not list((tmp_path / "run/checkpoints").glob("step-????????"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file/checkpoints", 2, Process())
    checkpoints.save(4, STATE)
    with pytest.raises(UserError, match=r"file.checkpoints: cannot be written \("):
        checkpoints.wait()


def test_an_interrupt_stops_a_slow_write_which_does_not_count(small_config, tmp_path, monkeypatch):
    """At the third checkpoint, the disk takes as long as it can."""
    write, calls = tensor_files.Writer._write, []

    def slow(writer, *arguments):
        calls.append(writer)
        while len(set(calls)) == 3 and not writer.stopped.is_set():
            time.sleep(0.01)
        return write(writer, *arguments)

    class Impatient(Observer):
        def step(self):
            if len(set(calls)) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(tensor_files.Writer, "_write", slow)
    monkeypatch.setattr("cpsc_train.training.selection.GRACE", 0.2)
    with pytest.raises(KeyboardInterrupt):
        train(small_config, tmp_path / "run", Impatient())
    monkeypatch.undo()
    assert len(list((tmp_path / "run/checkpoints").glob("step-????????"))) == 2
    assert not any(thread.name == "checkpoint" for thread in threading.enumerate())
    expected = train(small_config, tmp_path / "whole")
    assert {**resume(tmp_path / "run"), "seconds": 0} == {**expected, "seconds": 0}
    assert not list((tmp_path / "run").rglob("*.partial"))
