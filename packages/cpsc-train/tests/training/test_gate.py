"""The gate of a run: what it promises, what it does under noise, and that a run folder keeps it."""

import json
from dataclasses import replace

import pytest
import torch

from cpsc_train import evaluate, train
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED, GateConfig
from cpsc_train.recipes import recipe


def config(**changes):
    return replace(recipe("handwritten", inference=()), epochs=8, **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One training run without a gate, and its checkpoint measured with one."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    plain = train(config(), folder)
    return folder, plain, evaluate(folder, gate=GateConfig(distance="classes"))


def test_it_helps_under_noise_and_costs_nothing_without(runs):
    _, plain, gated = runs
    before, after = ({name: one["accuracy"][FUSED] for name, one in run["test"].items()} for run in (plain, gated))
    assert after["clean"] > before["clean"] - 0.005
    for condition in ("pix-gaussian-1", "fou-gaussian-2"):
        assert after[condition] > before[condition] + 0.02
    for condition in ("without-pix", "without-fou"):
        assert after[condition] == pytest.approx(before[condition], abs=0.01)


def test_down_weighted_fractions_are_reported(runs):
    _, plain, gated = runs
    assert "gate" not in plain["test"]["clean"]
    clean, noisy = gated["test"]["clean"]["gate"], gated["test"]["fou-gaussian-2"]["gate"]
    for figures in clean.values():  # alpha = .04 of 400 rows: at most 16 expected, and 5 standard errors
        assert figures["down_weighted"] <= 0.04 + 5 * (0.04 * 0.96 / 400) ** 0.5
        assert 0.99 < figures["weight"] <= 1
    assert noisy["fou"]["down_weighted"] > 0.9 > noisy["fou"]["weight"]
    assert noisy["pix"] == clean["pix"]
    assert set(gated["test"]["without-fou"]["gate"]) == {"pix"}


def test_measuring_with_another_gate_leaves_the_run_alone(runs):
    folder, plain, gated = runs
    again = evaluate(folder)
    assert again["test"] == plain["test"]
    assert json.loads((folder / "results.json").read_text())["test"] == plain["test"]
    assert evaluate(folder, gate=GateConfig(distance="all"))["test"] != gated["test"]


def test_a_run_keeps_its_gate(runs, tmp_path):
    _, _, gated = runs
    results = train(config(gate=GateConfig(distance="classes")), tmp_path / "run")
    assert results["test"] == gated["test"]  # training is the same with and without
    assert evaluate(tmp_path / "run")["test"] == gated["test"]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["gate"]["_of.pix.qhat"] < 1e30
    assert "gate" not in evaluate(tmp_path / "run", gate=GateConfig())["test"]["clean"]


def test_the_command_line_tells_and_exports_it(cpsc, quick, tmp_path):
    run = tmp_path / "run"
    outcome = cpsc("train", "--out", run, "--gate", "classes", "--set", "gate.alpha=0.1", *quick)
    assert outcome.code == 0, outcome.err
    assert "Down-weighted by the gate" in outcome.out
    assert "identical to results.json" in cpsc("evaluate", run).out
    without = cpsc("evaluate", run, "--gate", "off")
    assert without.code == 0
    assert "Down-weighted" not in without.out
    assert cpsc("export", run).code == 0
    from safetensors.torch import load_file  # noqa: PLC0415

    assert "gate._of.pix.whitening" in load_file(run / "model.safetensors")
    assert cpsc("report", run, "--out", tmp_path / "page").code == 0
    assert "Guaranteed on clean rows: at most 10 in" in (tmp_path / "page/report.html").read_text()


def test_too_few_calibration_rows_are_told_before_training(cpsc, quick, tmp_path):
    outcome = cpsc("train", "--out", tmp_path / "run", "--gate", "classes", *quick)
    assert outcome.code == 2
    assert (
        "40 calibration samples are too few for gate.alpha = 0.04: the smallest usable alpha is 0.04878" in outcome.err
    )
    assert not (tmp_path / "run").exists()


def test_bad_options():
    with pytest.raises(UserError, match=r"gate\.alpha must lie in \(0, 1\), got 1\.5"):
        GateConfig(distance="classes", alpha=1.5)
