import pickle
import shutil
import signal
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.training import checkpoint
from damage import Bomb

CPU = torch.device("cpu")
STATE = {"model": {"w": torch.arange(3.0)}, "qhat": {"a": torch.tensor(0.5)}, "epoch": 3}


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


@pytest.mark.parametrize("format_", [0, 2, None])
def test_another_format_is_refused_by_name(finished, tmp_path, cpsc, format_):
    folder = shutil.copytree(finished, tmp_path / "run")
    for file in (folder / "checkpoint.pt", *folder.glob("checkpoints/*/state.pt")):
        torch.save(torch.load(file, weights_only=True) | {"format": format_}, file)
    rule = f"must have format {checkpoint.FORMAT}, got {format_}: it was written by another version of cpsc-train"
    outcome = cpsc("evaluate", folder)
    assert (outcome.code, rule in outcome.err, "checkpoint.pt" in outcome.err) == (2, True, True)
    (folder / "results.json").unlink()
    outcome = cpsc("train", "--resume", folder)
    assert (outcome.code, rule in outcome.err, "step-" in outcome.err) == (2, True, True)
