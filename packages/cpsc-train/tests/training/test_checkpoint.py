import os
import pickle

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


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)
    back = checkpoint.load(path, CPU)
    assert back["epoch"] == 3
    assert torch.equal(back["model"]["w"], STATE["model"]["w"])
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_failed_write_leaves_the_former_checkpoint(tmp_path, monkeypatch):
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


def test_a_checkpoint_of_a_stranger_cannot_run_code(tmp_path):
    target = tmp_path / "made-by-the-bomb"
    for name, write in (
        ("torch.pt", lambda path: torch.save({"model": Bomb(target)}, path)),
        ("pickle.pt", lambda path: path.write_bytes(pickle.dumps({"model": Bomb(target)}))),
    ):
        write(tmp_path / name)
        with pytest.raises(UserError, match="is not a readable checkpoint"):
            checkpoint.load(tmp_path / name, CPU)
    assert not target.exists()


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_file_that_was_cut_off_is_named(tmp_path, keep):
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
