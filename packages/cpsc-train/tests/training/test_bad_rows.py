"""Runs on corrupted rows: which rows are down-weighted, what is reported, and resumption."""

import csv
import json
from dataclasses import replace

import pytest

from cpsc_train import evaluate, resume, train
from cpsc_train.data import CorruptionConfig
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.setup import Setup

BAD = CorruptionConfig(label_share=0.3)


def test_most_excluded_rows_have_wrong_labels(tmp_path):
    base = recipe("handwritten", inference=())
    config = replace(
        base,
        epochs=9,
        corruption=BAD,
        method=replace(base.method, trust="label", parts="both"),
        noise=(),
        leave_out=False,
    )
    results = train(config, tmp_path / "run")
    setup = Setup.build(config)
    rows = setup.splits.train
    wrong = {setup.dataset.ids[row] for row in rows if setup.dataset.labels[row] != setup.intact[row]}
    with (tmp_path / "run/rows.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert list(listed[0]) == ["id", "label", "weight_pix", "weight_fou", "weight_fused"]
    assert len(listed) == len(rows) == len({row["id"] for row in listed})
    first = [row["id"] for row in listed[: results["left_out"]]]
    assert all(float(row["weight_fused"]) == 0 for row in listed[: len(first)])
    assert all(float(row["weight_fused"]) > 1 for row in listed[len(first) :])
    assert len(wrong & set(first)) > 0.9 * len(wrong)
    assert len(set(first) - wrong) < 0.1 * (len(rows) - len(wrong))
    labels = {setup.dataset.ids[row]: setup.dataset.classes[setup.dataset.labels[row]] for row in rows}
    assert all(labels[row["id"]] == row["label"] for row in listed)


def test_a_run_resumed_within_an_epoch_gives_the_same_results(small_config, tmp_path):
    config = replace(
        small_config,
        corruption=BAD,
        method=replace(small_config.method, trust="label"),
        checkpoints=replace(small_config.checkpoints, every_steps=1),
        batch_size=16,
    )

    class Impatient(Observer):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 18:  # of 7 an epoch
                raise KeyboardInterrupt

    straight = train(config, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "paused", Impatient())
    again = resume(tmp_path / "paused")
    assert straight | {"seconds": 0} == again | {"seconds": 0}
    for name in ("rows.csv", "splits.npz"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "paused" / name).read_bytes()
    assert evaluate(tmp_path / "paused").items() <= again.items()


def test_the_command_line_reports_corrupted_and_excluded_rows(cpsc, quick, tmp_path):
    noise = '{modality="pix",kind="gaussian",severity=1.0,share=0.5}'
    options = ["corruption.label_share=0.3", f"corruption.noise=[{noise}]", "method.trust=label"]
    outcome = cpsc("train", "--out", tmp_path / "run", *quick, *(part for one in options for part in ("--set", one)))
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert set(results["corruption"]) == {"train", "calibration", "validation"}
    assert set(results["corruption"]["train"]) == {"labels", "pix-gaussian-1-of-0.5"}
    assert f"{results['left_out']} of {results['data']['train']} training rows have weight zero" in outcome.out
    assert "identical to results.json" in cpsc("evaluate", tmp_path / "run").out


def test_the_weights_that_a_run_writes_are_those_that_another_reads(small_config, tmp_path):
    config = replace(small_config, noise=(), leave_out=False, corruption=BAD)
    train(replace(config, method=replace(config.method, trust="label")), tmp_path / "first")
    method = MethodConfig.named("joint-unimodal")
    train(replace(config, method=method(weights=str(tmp_path / "first/rows.csv"))), tmp_path / "second")
    first, second = (
        {line["id"]: line for line in csv.DictReader((tmp_path / run / "rows.csv").read_text("utf-8").splitlines())}
        for run in ("first", "second")
    )
    assert first.keys() == second.keys()
    for row, line in first.items():
        assert float(second[row]["weight_pix"]) == pytest.approx(float(line["weight_pix"]), rel=1e-3)
    (tmp_path / "few.csv").write_text("id,weight_pix,weight_fou\nnobody,1,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="has no line for"):
        train(replace(config, method=method(weights=str(tmp_path / "few.csv"))), tmp_path / "third")
