from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cpsc_train.cli import main
from cpsc_train.config import read_toml
from cpsc_train.errors import UserError
from cpsc_train.evaluation.shapley import shapley
from cpsc_train.experiments import Grid, contenders, parse_variants, tune
from cpsc_train.experiments.plots import plot_ranks
from cpsc_train.experiments.scoreboard import LEVEL, Cost, scoreboard
from cpsc_train.experiments.statistics import critical_difference, holm, mean_ranks
from cpsc_train.experiments.suites import REPORTED, SUITES, contributions, reported
from cpsc_train.methods import MethodConfig
from cpsc_train.output import Output
from cpsc_train.recipes import recipe

# Statistics


def test_holm_by_hand():
    """.01 · 4, .02 · 3, .03 · 2, and .5, none smaller than one before it; what is no test is not counted."""
    found = holm([0.03, 0.01, float("nan"), 0.5, 0.02])
    np.testing.assert_allclose(found, [0.06, 0.04, np.nan, 0.5, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_rejects_a_true_null_hypothesis_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    any_error = [(holm(rng.uniform(size=8)) < 0.05).any() for _ in range(4000)]
    assert np.mean(any_error) < 0.062  # three standard errors above .05


def test_ranks_and_their_critical_difference():
    scores = np.random.default_rng(0).standard_normal((9, 5))
    np.testing.assert_allclose(mean_ranks(scores), stats.rankdata(-scores, axis=1).mean(0))
    # Table 5a of Demšar has q = 2.728 for five methods.
    assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 30)), abs=1e-3)


def test_shapley_values_add_up_and_are_symmetric():
    rng = np.random.default_rng(0)
    worth = {}

    def value(coalition):
        return worth.setdefault(coalition, rng.standard_normal(3))

    found = shapley("abcd", value)
    np.testing.assert_allclose(sum(found.values()), worth[frozenset("abcd")])
    same = shapley("abc", lambda coalition: float(len(coalition) ** 2))
    assert list(same.values()) == pytest.approx([3.0, 3.0, 3.0])
    dummy = shapley("ab", lambda coalition: 5.0 if "a" in coalition else 0.0)
    assert dummy == {"a": 5.0, "b": 0.0}


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


# Contenders

EPOCHS = 20


def test_methods_are_built_for_the_length_of_the_run():
    base = recipe("handwritten", epochs=30)
    found = contenders(base, ["all"])
    assert set(found) == set(MethodConfig.members)
    assert found["di-mml"].method.start == 4
    assert found["relearning"].method.every == 12
    assert found["reconboost"].method.epochs == 2
    assert found["tmc"].method.annealing == found["ecml"].method.annealing == 3
    assert found["lfm"].method.epochs == 30
    assert found["qmf"].method == MethodConfig.named("qmf")()
    assert found["cpsc"] == base
    more = contenders(base, ["joint"], {"mine": ["method.trust=label"]}, {"joint": {"optimizer.lr": 0.1}})
    assert more["mine"].method.trust == "label"
    assert more["joint"].optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("methods", "variants", "said"),
    [
        (["jiont"], [], "unknown method 'jiont'; did you mean 'joint'"),
        (["joint", "joint"], [], "methods must be different, got joint twice"),
        (["joint"], ["joint: epochs=3"], "got joint twice"),
    ],
)
def test_bad_contenders(methods, variants, said):
    with pytest.raises(UserError, match=said):
        contenders(recipe("handwritten"), methods, parse_variants(variants))


@pytest.mark.parametrize("name", list(MethodConfig.members))
def test_every_search_is_of_options_and_holds_the_default(name):
    member = MethodConfig.named(name)
    default = member()
    for option, space in member.search.items():
        value = getattr(default, option)
        if not isinstance(space, tuple):
            value = getattr(member.for_epochs(EPOCHS), option) if space.share else value
            space = space.for_epochs(EPOCHS)  # noqa: PLW2901
        ends = space if isinstance(space, tuple) else (space.low, space.high)
        for end in ends:
            member(**{option: end})
        assert value in space if isinstance(space, tuple) else space.low <= value <= space.high


# Commands

SMALL = ["--set", "epochs=3", "--set", "method.warmup=1", "--set", "noise=[]", "-q"]


def test_a_benchmark_is_gone_on_with(tmp_path, capsys):
    command = ["benchmark", "--methods", "cpsc,joint", "--seeds", "0,1", "--out", str(tmp_path), *SMALL]
    assert main(command) == 0
    assert "Imbalanced modalities" in capsys.readouterr().out
    before = (tmp_path / "imbalance.md").read_text(encoding="utf-8")
    kept = (tmp_path / "joint" / "seed-0" / "results.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "cpsc" / "seed-1")
    assert main(command) == 0
    assert (tmp_path / "joint" / "seed-0" / "results.json").stat().st_mtime_ns == kept

    def figures(text):  # all but time and memory
        return [line.split(" | ")[:-2] for line in text.splitlines()[2:]]

    assert figures((tmp_path / "imbalance.md").read_text(encoding="utf-8")) == figures(before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suite", "nosie"], "unknown suite 'nosie'; did you mean 'noise'"),
        (["--methods", "joint", "--reference", "cpsc"], "unknown reference 'cpsc'"),
        (["--tuned", "nowhere"], "nowhere: holds no tuned.toml: run cpsc tune --out nowhere to its end first"),
    ],
)
def test_a_mistake_is_told_before_the_long_part(options, said, tmp_path, capsys):
    assert main(["benchmark", "--out", str(tmp_path / "b"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("text", ["[joint]\nbest = 3\n", "joint = 3\n", "[joint]\nvalues = [3]\n"])
def test_a_damaged_outcome_of_a_search(text, tmp_path, capsys):
    (tmp_path / "tuned.toml").write_text(text, encoding="utf-8")
    assert main(["benchmark", "--methods", "joint", "--tuned", str(tmp_path), "--out", str(tmp_path / "b")]) == 2
    assert "tuned.toml: joint.values must be a table of values by key, got" in capsys.readouterr().err


def test_methods_are_explained(capsys):
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert "eau" in listed
    assert main(["methods", "show", "smv"]) == 0
    assert "method.most" in capsys.readouterr().out
    assert main(["methods", "show", "eau"]) == 0
    assert "method.latent" in capsys.readouterr().out


def test_a_search_is_gone_on_with(tmp_path, capsys):
    pytest.importorskip("optuna")
    out = tmp_path / "tune"
    command = ["tune", "--methods", "qmf", "--out", str(out), "--set", "epochs=2", "--set", "noise=[]", "-q"]
    assert main([*command, "--trials", "1"]) == 0
    first = (out / "qmf" / "trial-0" / "seed-0" / "results.json").stat().st_mtime_ns
    assert main([*command, "--trials", "2"]) == 0
    assert (out / "qmf" / "trial-0" / "seed-0" / "results.json").stat().st_mtime_ns == first
    assert not (out / "qmf" / "trial-2").exists()
    runs = [json.loads((out / "qmf" / f"trial-{n}" / "seed-0" / "results.json").read_text()) for n in (0, 1)]
    reached = [100 * one["validation"]["clean"]["accuracy"]["fused"] for one in runs]
    text = (out / "tuned.toml").read_text()
    assert f"best = {max(reached)}" in text
    assert f"default = {reached[0]}" in text
    assert main([*command, "--trials", "2", "--goal", "clean"]) == 2
    assert "holds a search of another configuration or goal" in capsys.readouterr().err

    compared = tmp_path / "benchmark"
    command = ["benchmark", "--methods", "qmf", "--seeds", "0", "--tuned", str(out), "--out", str(compared), "-q"]
    assert main([*command, "--set", "epochs=2", "--set", "noise=[]"]) == 0
    values = read_toml(out / "tuned.toml")["qmf"]["values"]
    used = read_toml(compared / "qmf" / "seed-0" / "config.toml")
    assert used["optimizer"]["lr"] == values["optimizer.lr"]
    assert used["method"]["ranking"] == values["method.ranking"]


def test_a_search_that_was_killed_goes_on_with_its_trial(tmp_path, monkeypatch):
    """Killed before anything was drawn for the first trial, then inside its run: options and folder stay."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = recipe("handwritten")
    runs = []

    class Killed(BaseException):
        """What nothing can catch."""

    def kill(*_):
        raise Killed

    def run(grid, **_):
        (((name, *_), config),) = grid._configs.items()
        runs.append((name, config))
        if len(runs) == 1:
            kill()
        return {name: [{"validation": {"clean": {"accuracy": {"fused": 0.5}}}, "cpu_seconds": 1.0}]}

    def search():
        return tune.Tuning(tmp_path, {"joint": config}, trials=2, goal="clean").run(
            jobs=1, console=Output(), quiet=True
        )

    monkeypatch.setattr(Grid, "run", run)
    with monkeypatch.context() as patch:
        patch.setattr(tune, "_values", kill)
        with pytest.raises(Killed):
            search()
    with pytest.raises(Killed):
        search()
    found = search()["joint"]
    assert [name for name, _ in runs[:2]] == ["trial-0"] * 2
    assert len(runs) == 3
    assert runs[0][1] == runs[1][1]
    assert runs[0][1].optimizer.lr == config.optimizer.lr
    assert (found.default, found.trials) == (50, 2)


def test_a_trial_that_fails_counts_and_is_not_chosen(tmp_path, capsys):
    pytest.importorskip("optuna")
    command = ["tune", "--methods", "joint", "--trials", "2", "--out", str(tmp_path / "t"), "-q"]
    # The first trial has a learning rate at which losses are not finite; what is searched is near it.
    assert main([*command, "--set", "epochs=1", "--set", "optimizer.lr=1e30", "--set", "optimizer.kind=sgd"]) == 2
    assert "every trial of joint failed, the last with: trial-1 seed 0 ended with code 2" in capsys.readouterr().err


def test_a_study_holds_no_password(tmp_path):
    """Its file has mode 644."""
    pytest.importorskip("optuna")
    config = recipe("av-digits")
    config = replace(config, data=replace(config.data, root="s3://key:secret@bucket/data"))
    tune.Tuning(tmp_path, {"joint": config}, trials=1, goal="clean")._study("joint", config)
    assert b"bucket/data" in (tmp_path / "study.db").read_bytes()
    assert b"secret" not in (tmp_path / "study.db").read_bytes()
