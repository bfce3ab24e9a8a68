"""Whole runs on samples that lack a modality."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpsc_train import evaluate, resume, train
from cpsc_train.config import override
from cpsc_train.data import MissingConfig
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.models import FUSED
from cpsc_train.reporting import Observer
from cpsc_train.reporting.report import report
from cpsc_train.training import RunConfig
from cpsc_train.training.calibration_share import calibration_share
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

MISSING = MissingConfig(share={"pix": 0.5, "fou": 0.3})
BRIEF = {"epochs": 3, "batch_size": 32, "noise": (), "leave_out": False, "conformal.refresh": "epoch"}


@pytest.fixture
def incomplete(small_config) -> RunConfig:
    return replace(small_config, missing=MISSING)


def brief(config, name):
    config = override(config, BRIEF | {"method.name": name})
    warmup = {"method.warmup": 1} if hasattr(config.method, "warmup") else {}
    return override(config, warmup | ({"method.start": 1} if name == "di-mml" else {}))


def outcome(folder):
    results = json.loads((folder / "results.json").read_text()) | {"seconds": 0}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return results, [line | {"seconds": 0, "time": 0, "cost": 0} for line in lines]


def numbers_in(value):
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers_in(item)]
    if isinstance(value, list):
        return [n for item in value for n in numbers_in(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("name", sorted(MethodConfig.members))
def test_every_method_trains(name, incomplete, tmp_path):
    results = train(brief(incomplete, name), tmp_path / "run")
    assert set(results["test"]["clean"]["accuracy"]) == {"pix", "fou", FUSED}
    figures, lines = outcome(tmp_path / "run")
    assert all(
        map(math.isfinite, numbers_in([figures["test"], figures["coverage"], *[line["loss"] for line in lines]]))
    )


def test_present_rows_are_counted_by_part_and_modality(incomplete):
    setup = Setup.build(incomplete)
    data = setup.describe()["data"]
    for part, present in data["present"].items():
        rows = getattr(setup.splits, part)
        assert present == {m: int(mask[rows].sum()) for m, mask in setup.dataset.presence.items()}
    assert 0.35 < 1 - data["present"]["train"]["pix"] / data["train"] < 0.65
    assert "present" not in Setup.build(replace(incomplete, missing=MissingConfig())).describe()["data"]


@pytest.mark.parametrize("name", ["cpsc", "qmf", "pdf"])
def test_what_missing_modalities_hold_changes_nothing(name, incomplete, tmp_path, monkeypatch):
    config = brief(incomplete, name)
    train(config, tmp_path / "one")
    setup = Setup.build(config)
    masks, load = setup.dataset.presence, HandwrittenConfig.load

    def other(self):
        dataset = load(self)
        read = dataset.read

        def scrambled(modality, rows, /):
            values = read(modality, rows)
            gone = ~masks[modality][rows].reshape(-1, *[1] * (values.ndim - 1))
            return np.where(gone, 1e6, values).astype(values.dtype)

        monkeypatch.setattr(dataset, "read", scrambled, raising=False)
        return dataset

    monkeypatch.setattr(HandwrittenConfig, "load", other)
    train(config, tmp_path / "other")
    assert outcome(tmp_path / "one") == outcome(tmp_path / "other")


def test_figures_of_a_modality_are_over_the_rows_that_have_it(incomplete, tmp_path):
    results = train(brief(incomplete, "joint-unimodal"), tmp_path / "run")
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        labels = arrays["labels"]
        for m in ("pix", "fou"):
            rows = arrays[f"present/{m}"]
            right = arrays[f"probabilities/{m}"].argmax(1) == labels
            assert results["test"]["clean"]["accuracy"][m] == pytest.approx(right[rows].mean())
            sizes = results["test"]["clean"]["coverage"][m]["sizes"].values()
            assert sum(size["count"] for size in sizes) == rows.sum() == results["data"]["present"]["test"][m]
            np.testing.assert_allclose(arrays[f"probabilities/{m}"][~rows], 0.1, rtol=1e-6)  # uniform
            assert not arrays[f"features/{m}"][~rows].any()
        right = arrays[f"probabilities/{FUSED}"].argmax(1) == labels
        assert results["test"]["clean"]["accuracy"][FUSED] == pytest.approx(right.mean())


def test_thresholds_are_those_of_calibration_rows_that_have_the_modality(incomplete):
    setup = Setup.build(brief(incomplete, "cpsc"))
    trainer = Trainer(setup)
    trainer.refresh.start_epoch()
    batch = next(calibration_share(setup).read(0, len(setup.splits.calibration)))
    scores = trainer.objective.calibration_logits(batch, None)
    for head, qhat in trainer.refresh.qhat.items():
        rows = batch.present.get(head, torch.ones(len(batch), dtype=torch.bool))
        of = 1 - scores[head][rows, 0].softmax(-1).gather(1, batch.labels[rows, None])[:, 0]
        assert float(qhat) == pytest.approx(float(of.sort().values[math.ceil((len(of) + 1) * 0.9) - 1]), abs=1e-6)
    assert set(batch.present) == {"pix", "fou"}


def test_without_a_modality_the_fused_figures_are_over_rows_with_another(incomplete, tmp_path):
    results = train(override(brief(incomplete, "joint"), {"leave_out": True}), tmp_path / "run")
    sizes = results["test"]["without-pix"]["coverage"][FUSED]["sizes"].values()
    assert sum(size["count"] for size in sizes) == results["data"]["present"]["test"]["fou"]


@pytest.mark.parametrize("name", ["cpsc", "qmf", "pmr", "mla"])
def test_a_run_resumes(name, incomplete, tmp_path):
    config = override(brief(incomplete, name), {"checkpoints.every_steps": 1, "conformal.refresh": "rolling"})
    train(config, tmp_path / "whole")

    class Stop(Observer):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", Stop())
    resume(tmp_path / "stopped")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "stopped")


def test_it_is_evaluated_and_reported_from_its_folder(incomplete, tmp_path):
    folder = tmp_path / "run"
    results = train(replace(brief(incomplete, "cpsc"), inference=("trust:alpha=0.5", "read", "dasp")), folder)
    again = evaluate(folder)
    assert {key: results[key] for key in again} == again
    assert "pix missing in train" in report(folder).read_text(encoding="utf-8")


def test_corruption_counts_rows_that_have_the_modality(incomplete):
    table = incomplete.to_plain()
    table["corruption"]["noise"] = [{"modality": "pix", "kind": "gaussian", "severity": 1.0}]
    described = Setup.build(RunConfig.from_plain(table)).describe()
    assert described["corruption"]["train"] == {"pix-gaussian-1": described["data"]["present"]["train"]["pix"]}


def test_too_few_calibration_rows_with_a_modality(incomplete):
    few = replace(incomplete, missing=MissingConfig(share={"pix": 0.95}, parts=("calibration",)))
    with pytest.raises(UserError, match=r"calibration samples with pix are too few for conformal\.alpha"):
        Setup.build(few)


def test_all_of_it_on_the_command_line(cpsc, quick, tmp_path):
    out = cpsc("train", "--out", tmp_path / "run", *quick, "--missing", "pix=.5", "--missing", "fou=.3")
    assert out.code == 0, out.err
    assert "pix missing in train" in out.out
    assert "identical to results.json, to the last digit\n" in cpsc("evaluate", tmp_path / "run").out
    few = ["--axes", "none", "--variant", "more: missing.share.pix=0.6", "--seeds", "0"]
    out = cpsc("ablate", "--out", tmp_path / "ablation", *quick[2:], "--set", "epochs=3", "--missing", "fou=.3", *few)
    assert out.code == 0, out.err
    config = (tmp_path / "ablation").rglob("config.toml")
    assert all("share" in path.read_text() for path in config)
