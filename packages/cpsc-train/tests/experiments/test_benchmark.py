from __future__ import annotations

import csv
import io
import shlex
import shutil

import numpy as np
import pytest
from scipy import stats

from cpsc_train.cli import main
from cpsc_train.errors import UserError
from cpsc_train.experiments.plots import plot_ranks
from cpsc_train.experiments.scoreboard import LEVEL, Cost, scoreboard
from cpsc_train.experiments.suites import REPORTED, SUITES, contributions, reported
from cpsc_train.methods import MethodConfig
from cpsc_train.output import Output

# Suites


def run(seed, *, clean, noisy, without, data="handwritten"):
    """What results.json would hold of two modalities."""

    def seen(fused, **others):
        return {
            "accuracy": {**others, "fused": fused},
            "average_accuracy": float(np.mean([*others.values(), fused])),
            "macro_f1": {"fused": fused - 0.01},
            "expected_calibration_error": {"fused": 0.02},
            "coverage": {"fused": {"coverage": 0.91}},
        }

    test = {"clean": seen(clean, a=0.8, b=0.4), "a-gaussian-1": seen(noisy, a=0.1, b=0.4)}
    test |= {f"without-{m}": seen(value) for m, value in without.items()}
    return {"seed": seed, "data": {"name": data, "modalities": ["a", "b"]}, "test": test}


def test_what_a_suite_looks_at():
    one = run(0, clean=0.9, noisy=0.5, without={"a": 0.3, "b": 0.7})
    imbalance = SUITES["imbalance"].figures(one)
    # a adds .7 alone and .6 to b; b adds .3 alone and .2 to a.
    assert imbalance == pytest.approx(
        {
            "accuracy": 90,
            "accuracy, a": 80,
            "accuracy, b": 40,
            "average": 70,
            "macro F1": 89,
            "without a": 30,
            "without b": 70,
            "contribution, a": 65,
            "contribution, b": 25,
            "ECE": 2,
            "coverage": 91,
        }
    )
    noise = SUITES["noise"].figures(one)
    assert noise == pytest.approx({"clean": 90, "a-gaussian-1": 50, "mean": 70, "worst": 50, "ECE": 2, "coverage": 91})
    assert contributions(run(0, clean=0.9, noisy=0.5, without={})) == {}


def levelled(seed, *, seen=()):
    """Return a run with two kinds of noise at two levels each."""
    one = run(seed, clean=0.9, noisy=0.5, without={})
    severe = one["test"].pop("a-gaussian-1")
    names = {f"a:{kind}@{level}": (kind, level) for kind in ("blur", "jpeg") for level in (1, 5)}
    one["conditions"] = {
        name: [{"modality": "a", "kind": kind, "severity": 0.1, "level": level, "share": 1.0}]
        for name, (kind, level) in names.items()
    }
    one["test"] |= {name: one["test"]["clean"] if level == 1 else severe for name, (_, level) in names.items()}
    return one | {"seen": {"training": list(seen)}}


def test_the_noise_suite_has_areas_and_separates_kinds_that_training_used():
    figures = SUITES["noise"].figures(levelled(0))
    assert figures["area, a:blur"] == pytest.approx((90 + 4 * 70) / 5)
    assert figures["area"] == pytest.approx(figures["area, a:blur"])
    assert "mean, seen" not in figures
    used = SUITES["noise"].figures(levelled(0, seen=["a:blur"]))
    assert used["mean, seen"] == used["mean, held out"] == pytest.approx(70)
    results = {"joint": [levelled(0)] * 2, "cpsc": [levelled(0, seen=["a:blur"])] * 2}
    taken = {name: TAKEN[name][:2] for name in results}
    board = scoreboard(results, taken, SUITES["noise"], "noise", reference="joint")
    rows = {row[0]: dict(zip(board.table().header, row, strict=True)) for row in board.table().rows}
    assert rows["cpsc"]["mean, seen"] == "70.0 ± 0.0"
    assert rows["joint"]["mean, seen"] == "–"


def test_what_the_source_reports_names_methods_that_are_here():
    for figures in REPORTED.values():
        assert set(figures) <= set(MethodConfig.members)
    assert reported("crema-d", "imbalance", "lfm") == "accuracy 86.02, average 75.94"
    assert reported("handwritten", "imbalance", "lfm") == ""


# Scoreboards


def made_up(data="handwritten"):
    rng = np.random.default_rng(1)
    best = {"joint": 0.80, "cpsc": 0.90, "qmf": 0.897}
    return {
        name: [
            run(seed, clean=mean + rng.normal(0, 0.005), noisy=mean - 0.1, without={"a": 0.3, "b": 0.7}, data=data)
            for seed in range(5)
        ]
        for name, mean in best.items()
    }


TAKEN = {"joint": [Cost(2.0, 100.0)] * 5, "cpsc": [Cost(3.0, 150.0)] * 5, "qmf": [Cost(2.0, float("nan"))] * 5}


def test_a_scoreboard_by_hand():
    results = made_up()
    board = scoreboard(results, TAKEN, SUITES["imbalance"], "imbalance", reference="cpsc")
    rows = {row.name: row for row in board.rows}
    assert board.rows[-1].name == "joint"
    scores = {
        name: np.array([100 * one["test"]["clean"]["accuracy"]["fused"] for one in runs])
        for name, runs in results.items()
    }
    raw = {name: stats.ttest_rel(scores[name], scores["cpsc"]).pvalue for name in ("joint", "qmf")}
    assert rows["joint"].p_value == pytest.approx(2 * raw["joint"])
    assert rows["qmf"].p_value == pytest.approx(max(raw["qmf"], 2 * raw["joint"]))
    assert rows["joint"].p_value < LEVEL
    assert rows["qmf"].p_value > LEVEL
    assert rows["cpsc"].difference is None
    assert rows["joint"].difference[0] == pytest.approx((scores["joint"] - scores["cpsc"]).mean())
    assert rows["joint"].rank == 3
    assert rows["cpsc"].cost == Cost(1.5, 1.5)
    with pytest.raises(UserError, match="unknown reference 'cpcs'"):
        scoreboard(results, TAKEN, SUITES["noise"], "noise", reference="cpcs")


@pytest.mark.parametrize("data", ["handwritten", "crema-d"])
def test_every_form_holds_the_same_cells(data, tmp_path):
    results = made_up(data)
    board = scoreboard(results, TAKEN, SUITES["imbalance"], "imbalance", reference="cpsc")
    markdown, lines = board.write(results, "imbalance", tmp_path)
    assert (markdown.name, lines.name) == ("imbalance.md", "imbalance.csv")
    text = markdown.read_text(encoding="utf-8")
    output = io.StringIO()
    Output(file=output).print(board.console())
    for row in board.table().rows:
        assert f"| {' | '.join(row)} |".replace("*", r"\*") in text
        assert row[1] in output.getvalue()
    assert ("reported" in text) == (data == "crema-d")
    assert board.caption().replace("*", r"\*") in text
    with lines.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert {row["method"] for row in rows} == set(results)


@pytest.mark.parametrize("seeds", [1, 5])
def test_ranks_are_drawn(seeds, tmp_path):
    pytest.importorskip("matplotlib", reason="an extra")
    results = {name: runs[:seeds] for name, runs in made_up().items()}
    board = scoreboard(results, TAKEN, SUITES["noise"], "noise", reference="cpsc")
    assert plot_ranks(board, tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")


def test_one_seed_allows_no_test():
    results = {name: runs[:1] for name, runs in made_up().items()}
    board = scoreboard(results, TAKEN, SUITES["noise"], "noise", reference="joint")
    assert all(np.isnan(row.p_value) for row in board.rows)
    assert np.isnan(board.critical)
    assert {row[board.table().header.index("p")] for row in board.table().rows} == {"–"}


# Commands

SMALL = ["--set", "epochs=3", "--set", "method.warmup=1", "--set", "noise=[]", "-q"]


def test_a_benchmark_is_gone_on_with(tmp_path, capsys):
    command = ["benchmark", "--methods", "cpsc,joint", "--seeds", "0,1", "--out", str(tmp_path), *SMALL]
    assert main(command) == 0
    assert "Imbalanced modalities" in capsys.readouterr().out
    before = (tmp_path / "imbalance.md").read_text(encoding="utf-8")
    kept = (tmp_path / "joint" / "seed-0" / "results.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "cpsc" / "seed-1")
    assert main(command[:-1]) == 0
    out = capsys.readouterr().out
    assert f"next: cpsc report {tmp_path / 'cpsc'}\n" in out
    assert f"next: cpsc tune {shlex.join(SMALL[:-1])} --methods cpsc,joint\n" in out
    assert (tmp_path / "joint" / "seed-0" / "results.json").stat().st_mtime_ns == kept

    def figures(text):  # all but time and memory
        return [line.split(" | ")[:-2] for line in text.splitlines()[2:]]

    assert figures((tmp_path / "imbalance.md").read_text(encoding="utf-8")) == figures(before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suites", "nosie"], "unknown suite 'nosie'; did you mean 'noise'"),
        (["--methods", "joint", "--reference", "cpsc"], "unknown reference 'cpsc'"),
        (["--tuned", "nowhere"], "nowhere: holds no tuned.toml: run cpsc tune --out nowhere to its end first"),
    ],
)
def test_a_mistake_is_told_before_the_long_part(options, said, tmp_path, capsys):
    assert main(["benchmark", "--out", str(tmp_path / "b"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
