"""Tests on a GPU: methods, precisions and refresh policies train, no step waits for the device, and runs repeat."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch

from cpsc_train import RunConfig, resume, train
from cpsc_train.cli import main
from cpsc_train.config import apply_settings
from cpsc_train.methods import MethodConfig
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.runs import RunFolder
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

QUICK = ["epochs=6", "method.warmup=2", "noise=[]", "compute.device=cuda"]
PLAIN = ["epochs=6", "noise=[]", "compute.device=cuda"]
TEACHERS = {"reconboost": ["method.epochs=1", "method.together=1"], "di-mml": ["method.start=1"]}


def config(*changes: str) -> RunConfig:
    return apply_settings(recipe("handwritten"), list(changes))


@contextmanager
def waits_forbidden():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def watched(trainer: Trainer) -> Trainer:
    """Forbid waiting for the device inside steps and refreshes, except the first two of each."""
    for owner, name in ((trainer, "_step"), (trainer.refresh, "after_step")):
        plain, calls = getattr(owner, name), []

        def call(*arguments, plain=plain, calls=calls):
            calls.append(None)
            if len(calls) < 3:
                return plain(*arguments)
            with waits_forbidden():
                return plain(*arguments)

        setattr(owner, name, call)
    return trainer


@pytest.mark.parametrize("missing", [[], ["missing.share={pix=0.5, fou=0.3}"]])
@pytest.mark.parametrize("name", sorted(MethodConfig.members))
def test_a_step_of_a_method_does_not_wait(name, missing):
    changes = TEACHERS.get(name, ["method.warmup=1"] if name == "smv" or name.startswith("cpsc") else [])
    changes = [*changes, *(["conformal.refresh=epoch"] if MethodConfig.named(name)().needs_full_refresh else [])]
    trainer = watched(Trainer(Setup.build(config(*PLAIN, *missing, f"method.name={name}", *changes))))
    for _ in range(3):
        trainer.train_epoch(Observer())


@pytest.mark.parametrize(
    "change",
    ["method.trust=label"] + [f"conformal.refresh={policy}" for policy in ("rolling", "epoch", "exact", "interval:3")],
)
def test_a_step_of_cpsc_does_not_wait(change):
    changes = [change, "method.warmup=1"]
    trainer = watched(Trainer(Setup.build(config(*PLAIN, *changes))))
    for _ in range(3):
        trainer.train_epoch(Observer())


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["compute.precision=bf16"],
        ["compute.precision=fp16"],
        ["compute.tf32=true", "optimizer.clip_norm=1.0", "ema=0.9"],
        ["compute.compile=default"],
        ["compute.compile=reduce-overhead"],
        ["compute.precision=bf16", "compute.compile=reduce-overhead"],
    ],
    ids=" ".join,
)
def test_it_learns(changes, tmp_path):
    results = train(config(*QUICK, "epochs=12", *changes), tmp_path / "run")
    assert results["test"]["clean"]["accuracy"][FUSED] > 0.9


def outcome(folder):
    results = json.loads((folder / "results.json").read_text())
    results.pop("seconds")
    return results


def test_a_run_repeats_to_the_last_digit(tmp_path):
    for name in "ab":
        train(config(*QUICK, "compute.deterministic=true"), tmp_path / name)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_a_resumed_run_is_the_whole_one(tmp_path):
    class Stopped(Exception):
        pass

    class Stops(Observer):
        count = 0

        def step(self):
            self.count += 1
            if self.count == 40:
                raise Stopped

    train(config(*QUICK, "compute.deterministic=true"), tmp_path / "straight")
    stopped = config(*QUICK, "compute.deterministic=true", "checkpoints.every_epochs=1")
    with pytest.raises(Stopped):
        train(stopped, RunFolder(tmp_path / "paused"), Stops())
    resume(RunFolder(tmp_path / "paused"))
    assert outcome(tmp_path / "paused")["test"] == outcome(tmp_path / "straight")["test"]


def test_the_host_and_the_device_agree_for_a_few_steps():
    losses = {}
    for device in ("cpu", "cuda"):
        trainer = Trainer(Setup.build(config("noise=[]", f"compute.device={device}", "method.name=joint")))
        losses[device] = trainer.train_epoch(Observer())["loss"]
    for name, value in losses["cpu"].items():
        assert losses["cuda"][name] == pytest.approx(value, rel=1e-3)


def test_the_command_line_trains_evaluates_and_exports(tmp_path):
    run = tmp_path / "run"
    options = [part for item in QUICK[1:] for part in ("--set", item)]
    assert main(["train", "--out", str(run), "--epochs", "4", *options]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["export", str(run)]) == 0
