"""The command that each command names at its end, and the keys meant by unknown options."""

from __future__ import annotations

import io
import shlex
import shutil
from pathlib import Path

import pytest

from cpsc_train.cli import parse
from cpsc_train.cli.data import Data
from cpsc_train.cli.hints import new_samples
from cpsc_train.data import DataConfig
from cpsc_train.output import Output


def following(outcome):
    """Return the words of the commands that are named, after a check that `cpsc` accepts them."""
    assert outcome.code in {0, 2}, outcome.err
    lines = [line.removeprefix("next: ") for line in outcome.out.splitlines() if line.startswith("next: ")]
    commands = [shlex.split(line) for line in lines]
    for name, *words in commands:
        if name == "cpsc":
            parse(words)
    return commands


def test_a_run_is_reported_evaluated_under_noise_and_used(cpsc, tmp_path, quick):
    run = tmp_path / "a run"
    report = ["cpsc", "report", str(run)]
    assert following(cpsc("train", "--out", run, *quick)) == [
        report,
        ["cpsc", "evaluate", str(run), "--noise", "pix:all@1-5"],
        ["cpsc", "predict", str(run), "new.npz", "--out", "predictions.csv"],
    ]
    assert following(cpsc("evaluate", run)) == [report]
    (run / "results.json").unlink()
    assert following(cpsc("evaluate", run)) == [["cpsc", "train", "--resume", str(run)]]
    assert following(cpsc("train", "--out", tmp_path / "quiet", "-q", *quick)) == []


def test_checked_data_is_trained_on(cpsc):
    options = ["--set", 'data.modalities=["pix", "zer"]']
    checked = cpsc("data", "check", "handwritten", "--workers", 0, *options)
    assert following(checked) == [["cpsc", "train", "--data", "handwritten", *options]]


@pytest.mark.parametrize(
    ("name", "root", "new"),
    [
        ("table", "mine.tsv", "new.tsv"),
        ("arrays", "mine.npz", "new.npz"),
        ("arrays", "folder", "new.npz"),
        ("mvsa-single", "s3://bucket/mvsa.v1", "new.csv"),
    ],
)
def test_new_samples_have_the_format_of_the_training_data(name, root, new):
    assert new_samples(DataConfig.named(name)(root=root)) == new


@pytest.mark.parametrize(
    ("skip_list", "wanted"),
    [
        (None, "cpsc data check crema-d --root 'my data' --skip-list crema-d-faults.tsv"),
        (Path("bad.tsv"), "cpsc train --data crema-d --root 'my data' --set data.skip=bad.tsv"),
    ],
)
def test_faults_are_listed_and_then_left_out(skip_list, wanted):
    text = io.StringIO()
    check = Data(action="check", name="crema-d", root="my data", skip_list=skip_list)
    check.suggest(Output(file=text), "crema-d", faulty=True)
    assert text.getvalue() == f"next: {wanted}\n"


def test_a_report_and_an_export_name_the_next_command(cpsc, finished, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="reports are drawn by matplotlib")
    pytest.importorskip("safetensors", reason="an extra")
    monkeypatch.setattr("cpsc_train.reporting.report.panel.Panel.render", lambda *_: b"\x89PNG")
    shutil.copytree(finished, tmp_path / "runs" / "b")
    ((*words, noise),) = following(cpsc("report", tmp_path / "runs"))
    assert (words, noise) == (["cpsc", "evaluate", str(tmp_path / "runs" / "b"), "--noise"], "pix:all@1-5")
    ((_, _, code),) = following(cpsc("export", tmp_path / "runs" / "b"))
    exec(code)  # noqa: S102  # what is to be pasted runs


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "--alpha", "0.2"], "cpsc: to change conformal.alpha, use --set conformal.alpha=VALUE\n"),
        (["benchmark", "--epochs=2"], "cpsc: to change epochs, use --set epochs=VALUE\n"),
    ],
)
def test_a_key_given_as_an_option_is_named(capsys, words, hint):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert capsys.readouterr().err.endswith(hint)
