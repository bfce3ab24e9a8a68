"""Trackers: each tool receives the figures of a run; an unknown or missing one is named."""

import json
import sys

import pytest

from cpsc_train.errors import UserError
from cpsc_train.reporting.trackers import tracker

ACCURACY = "validation accuracy/fused"


@pytest.fixture
def run(cpsc, quick, tmp_path):
    """Train with a tracker; return its accuracies on validation rows by epoch, and on clean test rows."""

    def trained(tool):
        outcome = cpsc("train", "-q", "--out", tmp_path / "run", "--track", tool, *quick)
        assert outcome.code == 0, outcome.err
        records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
        results = json.loads((tmp_path / "run/results.json").read_text())
        clean = results["test"]["clean"]["accuracy"]["fused"]
        return {record["epoch"]: pytest.approx(record["validation"]["accuracy"]["fused"]) for record in records}, clean

    return trained


def test_wandb(run, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run("wandb")
    (stored,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert ACCURACY.encode() in stored.read_bytes()


def test_mlflow(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="an extra")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    accuracies, clean = run("mlflow")
    (stored,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    history = mlflow.MlflowClient().get_metric_history(stored.info.run_id, ACCURACY)
    assert {one.step: one.value for one in history} == accuracies
    assert stored.data.metrics["test accuracy/clean"] == pytest.approx(clean)
    assert stored.data.params["method"] == "cpsc"


def test_trackio(run, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio", reason="an extra")
    for name, module in list(sys.modules.items()):  # the tool reads the environment when it is imported
        if name.startswith("trackio") and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    run("trackio")
    (stored,) = trackio.Api().runs("cpsc")
    assert (stored.name, stored.config["method"]) == ("run", "cpsc")
    assert any(ACCURACY.encode() in path.read_bytes() for path in tmp_path.glob("cpsc.db*"))


def test_unknown_and_missing_tools(cpsc, monkeypatch, tmp_path):
    outcome = cpsc("train", "--track", "wandbb", "--out", tmp_path / "run")
    assert (outcome.code, "did you mean 'wandb'" in outcome.err) == (2, True)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r'mlflow is not installed: pip install "cpsc-train\[mlflow\]"'):
        tracker("mlflow")
