"""A stream: predictors that learn hold their coverage where the others lose it, and nothing is seen before its turn."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from conformal_core import LAC, SplitClassifier
from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.predictors import ONLINE, PREDICTORS, density_ratios, follow


def said(rows: int, seed: int, wrong: float = 0.0) -> Predictions:
    """A classifier of four classes that is as sure as it should be, but for a share of the rows."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), size=rows)
    labels = (rng.random((rows, 1)) > probabilities.cumsum(1)).sum(1).clip(max=3)
    labels = np.where(rng.random(rows) < wrong, rng.integers(0, 4, rows), labels)
    return Predictions(labels, {"fused": probabilities})


def both(first: Predictions, second: Predictions) -> Predictions:
    labels = np.concatenate([first.labels, second.labels])
    return Predictions(labels, {"fused": np.concatenate([p.probabilities["fused"] for p in (first, second)])})


def test_split_is_the_split_predictor():
    known, coming = said(300, 0), said(500, 1)
    found = follow(known, coming, "fused", alpha=0.1, predictors=["split"])["split"]
    predictor = SplitClassifier(LAC(), alpha=0.1)
    predictor.calibrate(known.probabilities["fused"], known.labels)
    sets = predictor.predict(coming.probabilities["fused"])
    np.testing.assert_array_equal(found.hits, sets[np.arange(500), coming.labels])
    np.testing.assert_array_equal(found.sizes, sets.sum(1))


def test_without_drift_all_of_them_cover():
    known = said(500, 0)
    rng = np.random.default_rng(0)
    ratios = density_ratios(rng.normal(size=(500, 3)), rng.normal(size=(2000, 3)))
    found = follow(known, said(2000, 1), "fused", alpha=0.1, ratios=ratios)
    assert tuple(found) == PREDICTORS
    for name, one in found.items():
        assert abs(one.hits.mean() - 0.9) < 0.035, name


def test_those_that_learn_hold_their_coverage_under_drift():
    known, coming = said(300, 0), both(said(700, 1), said(1300, 2, wrong=0.6))
    found = {name: one.figures(200) for name, one in follow(known, coming, "fused", alpha=0.1).items()}
    assert "weighted" not in found  # there are no ratios
    assert found["split"]["coverage"] < 0.8
    for name in ("aci", "dtaci", "saocp"):
        assert abs(found[name]["coverage"] - 0.9) < 0.05  # the change itself costs rows
        assert found[name]["worst"] > found["split"]["worst"] + 0.1
        assert found[name]["mean_size"] > found["split"]["mean_size"]


@pytest.mark.parametrize("name", ONLINE)
def test_a_set_knows_nothing_of_its_label_or_of_what_comes_later(name):
    known, coming = said(100, 0), said(60, 1)
    changed = Predictions(coming.labels.copy(), coming.probabilities)
    changed.labels[30:] = (changed.labels[30:] + 1) % 4
    a, b = (follow(known, x, "fused", alpha=0.1, predictors=[name])[name] for x in (coming, changed))
    np.testing.assert_array_equal(a.sizes[:31], b.sizes[:31])


def test_weights_restore_coverage_under_a_shift_of_the_inputs():
    """Rows of one kind are rare in calibration and common on the stream; the model is worse on them."""
    rng = np.random.default_rng(0)

    def rows(count, rare, seed):
        easy, hard = said(count, seed), said(count, seed + 1, wrong=0.8)
        kind = np.random.default_rng(seed + 2).random(count) < rare
        labels = np.where(kind, hard.labels, easy.labels)
        probabilities = np.where(kind[:, None], hard.probabilities["fused"], easy.probabilities["fused"])
        return Predictions(labels, {"fused": probabilities}), kind[:, None] * 3.0 + rng.normal(size=(count, 1))

    (known, features), (coming, shifted) = rows(3000, 0.1, 10), rows(3000, 0.6, 20)
    ratios = density_ratios(features, shifted)
    found = follow(known, coming, "fused", alpha=0.1, predictors=["split", "weighted"], ratios=ratios)
    assert found["split"].hits.mean() < 0.84
    assert found["weighted"].hits.mean() > found["split"].hits.mean() + 0.03


def test_the_command_tells_and_draws(cpsc, finished, tmp_path):
    picture, out = tmp_path / "a.png", tmp_path / "a.json"
    drift = ["--drift", "fou:gaussian:2", "--order", "random"]
    outcome = cpsc("stream", finished, "--picture", picture, "--out", out, "--window", 20, *drift)
    assert outcome.code == 0, outcome.err
    assert "saocp" in outcome.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(out.read_text())
    assert set(found["heads"]) == {"pix", "fou", "fused"}
    assert found["heads"]["fou"]["split"]["coverage"] < found["heads"]["fou"]["aci"]["coverage"]
    clean = cpsc("stream", finished)
    assert "weighted: 40 calibration rows count as" in clean.out


def test_a_sensor_that_fades_raises_an_alarm(cpsc, quick, tmp_path):
    run, out, picture = tmp_path / "run", tmp_path / "a.json", tmp_path / "a.png"
    assert cpsc("train", "--out", run, *quick, "--set", "inference=['trust:alpha=0.2']").code == 0
    options = [
        "--order",
        "random",
        "--drift",
        "fou:gaussian@3,5",
        "--delta",
        "0.05",
        "--picture",
        picture,
        "--out",
        out,
    ]
    outcome = cpsc("stream", run, *options)
    assert outcome.code == 0, outcome.err
    assert "P(any false alarm) ≤ 0.05 on unchanged rows" in " ".join(outcome.out.split())
    assert re.search(r"condition +┃ +pix ┃ +fou", outcome.out)
    assert int.from_bytes(picture.read_bytes()[20:24], "big") == 1104
    results = json.loads(out.read_text())
    fou, pix = (results["trust"]["modalities"][m] for m in ("fou", "pix"))
    assert results["rows"] // 2 < fou["alarm"] <= results["rows"]
    assert fou["max"] >= np.log10(2 / 0.05) > pix["max"]
    assert list(fou["trust"]) == ["clean", "fou:gaussian@3", "fou:gaussian@5"]
    assert fou["trust"]["clean"] > fou["trust"]["fou:gaussian@5"]
    assert set(results["trust"]["fused"]) == {"split", "window", "aci", "dtaci", "saocp"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--order", "group"], "has no groups to order the rows by: use --order data or random"),
        (["--window", "0"], "--window must be at least 1, got 0"),
        (["--delta", "1"], "--delta must lie in (0, 1), got 1.0"),
        (["--drift", "fou:gaussian"], "noise must read MODALITY:KIND@1-5"),
        (["--out", "/nowhere/at/all.json"], "/nowhere/at/all.json: cannot be written"),
    ],
)
def test_bad_use_is_told(cpsc, finished, options, said):
    outcome = cpsc("stream", finished, *options)
    assert outcome.code == 2
    assert said in outcome.err
