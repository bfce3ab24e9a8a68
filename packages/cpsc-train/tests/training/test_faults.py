"""Errors that stop a run, and the state of its folder afterwards."""

import json

import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.methods.cpsc.method import CPSC
from cpsc_train.models import FUSED
from cpsc_train.reporting import Observer
from cpsc_train.runs import RunFolder
from cpsc_train.training import evaluate, resume, train
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer


def test_a_loss_that_is_not_finite_stops_the_run_and_says_which(small_config, tmp_path, monkeypatch):
    losses = CPSC.losses
    calls = []

    def bad(self, model, features, labels, qhat, present):
        out = losses(self, model, features, labels, qhat, present)
        calls.append(1)
        if len(calls) == 3:
            out.terms["ce_fou"] = out.terms["ce_fou"] * torch.inf
        return out

    monkeypatch.setattr(CPSC, "losses", bad)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"epoch 2, step 3: loss ce_fou is not finite on samples \d{4}, .* more: lower optimizer\.lr"
    ):
        train(small_config, folder)
    assert json.loads((folder.path / "environment.json").read_text())["status"] == "failed"
    assert not (folder.path / "results.json").exists()


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_can_be_evaluated(small_config, tmp_path, after):
    class Impatient(Observer):
        def epoch(self, record):
            if record["epoch"] == after:
                raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(small_config, folder, Impatient())
    assert json.loads((folder.path / "environment.json").read_text())["status"] == "interrupted"
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == after
    assert 0 <= evaluate(folder)["test"]["clean"]["accuracy"][FUSED] <= 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_suggests_a_smaller_batch(small_config, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Trainer, "_step", fail)
    message = "out of memory with batch_size = 64 .*--set batch_size=32 --set optimizer.accumulate=2"
    with pytest.raises(UserError, match=message):
        train(small_config, tmp_path / "run")
    assert json.loads((tmp_path / "run/environment.json").read_text())["status"] == "failed"


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(small_config, tmp_path, monkeypatch):
    save, calls = torch.save, []

    def full(state, file):
        calls.append(1)
        if len(calls) == 4:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        train(small_config, tmp_path / "run")
    monkeypatch.setattr(torch, "save", save)
    assert not list((tmp_path / "run").rglob("*.partial"))
    results = resume(tmp_path / "run")
    assert results | {"seconds": 0} == train(small_config, tmp_path / "straight") | {"seconds": 0}
    assert results["selected"]["epoch"] >= 3


@pytest.mark.parametrize(
    ("how", "raised", "status"), [("Terminated", KeyboardInterrupt, "interrupted"), ("Killed", UserError, "failed")]
)
def test_a_worker_process_that_dies(small_config, tmp_path, monkeypatch, how, raised, status):
    def fail(*_):
        raise RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {how}. ")

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(raised):
        train(small_config, tmp_path / "run")
    assert json.loads((tmp_path / "run/environment.json").read_text())["status"] == status


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_never_saved(small_config, tmp_path, monkeypatch, value):
    """At the last step of an epoch, after which there is no loss to show it."""
    step, calls = Trainer._step, []

    def poisoned(trainer, *arguments):
        step(trainer, *arguments)
        calls.append(1)
        if len(calls) == 3 * trainer._order.steps:
            next(trainer.objective.parameters()).data.fill_(value)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    with pytest.raises(UserError, match=r"epoch 3, step \d+: parameter encoders\..* is not finite although"):
        train(small_config, tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run/checkpoint.pt").exists()
    newest = Checkpoints(tmp_path / "run/checkpoints", 1, Process()).newest()
    assert newest["epoch"] == 2
    assert all(tensor.isfinite().all() for tensor in newest["objective"].values())
    assert resume(tmp_path / "run")["selected"]["epoch"] >= 3
