"""Inference variants of a run: results beside the plain ones, which stay the same bit for bit."""

import json
from dataclasses import replace

import pytest

from cpsc_train import evaluate, train
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

NAMES = ("trust", "read:lr=0.01", "dasp")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run without and with variants."""
    folder = tmp_path_factory.mktemp("runs")
    config = recipe("handwritten", epochs=6, inference=())
    return folder, train(config, folder / "plain"), train(replace(config, inference=NAMES), folder / "varied")


def test_plain_results_do_not_depend_on_variants(runs):
    _, plain, varied = runs
    assert "inference" not in plain
    for key in ("test", "validation", "coverage", "selected"):
        assert varied[key] == plain[key]


def test_each_variant_has_the_figures_of_the_plain_evaluation(runs):
    folder, _, varied = runs
    assert list(varied["inference"]) == list(NAMES)
    for name, figures in varied["inference"].items():
        assert figures["seen"] == (["pix:gaussian", "fou:gaussian"] if name == "trust" else [])
        for part in ("validation", "test"):
            assert list(figures[part]) == list(varied[part])
            for condition, of in figures[part].items():
                assert set(of) - {"trust"} == set(varied[part][condition])
                assert set(of["accuracy"]) == set(varied[part][condition]["accuracy"])
    assert json.loads((folder / "varied/results.json").read_text())["inference"] == varied["inference"]


def test_evaluation_of_a_finished_run(runs):
    folder, _, varied = runs
    again = evaluate(folder / "plain", inference=NAMES)
    assert again["inference"] == varied["inference"]
    assert evaluate(folder / "varied")["inference"] == varied["inference"]
    assert "inference" not in evaluate(folder / "varied", inference=())


def test_command_line(cpsc, runs, tmp_path):
    folder, _, varied = runs
    outcome = cpsc("evaluate", folder / "plain", "--inference", "trust,dasp", "--out", tmp_path / "out.json")
    assert outcome.code == 0, outcome.err
    assert "Fused test accuracy by inference" in outcome.out
    assert "Down-weighted by trust, % of the test rows (mean weight)" in outcome.out
    assert json.loads((tmp_path / "out.json").read_text())["inference"]["dasp"] == varied["inference"]["dasp"]
    assert "identical to results.json" in cpsc("evaluate", folder / "varied").out
    assert cpsc("evaluate", folder / "plain", "--inference", "trus").code == 2


def test_variants_must_differ():
    with pytest.raises(UserError, match="inference must name different variants, got trust, trust"):
        replace(recipe("handwritten"), inference=("trust", "trust"))


def test_report_has_a_table(cpsc, runs, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    folder, _, _ = runs
    assert cpsc("report", folder / "varied", "--out", tmp_path).code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in page for name in ("plain", "trust", "read:lr=0.01", "dasp"))
