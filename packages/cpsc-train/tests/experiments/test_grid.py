from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from cpsc_train.errors import UserError
from cpsc_train.experiments import (
    AXES,
    Grid,
    parse_seeds,
    parse_variants,
    references,
    summarise,
    variants,
    write_tables,
)
from cpsc_train.experiments.executors import Local
from cpsc_train.experiments.statistics import paired_difference
from cpsc_train.output import Output
from cpsc_train.recipes import recipe


def results(values):
    """What results.json would hold, with these fused test accuracies under a clean and a noisy condition."""

    def run(seed, clean, noisy):
        part = {
            "clean": {"accuracy": {"a": 0.5, "fused": clean}},
            "a-gaussian-1": {"accuracy": {"a": 0.1, "fused": noisy}},
            "without-a": {"accuracy": {"fused": 0.2}},
        }
        sets = {part: {"fused": {"coverage": 0.9}} for part in ("validation", "test")}
        return {
            "seed": seed,
            "data": {"modalities": ["a"]},
            "seconds": 5.0 + seed,
            "validation": part,
            "test": part,
            "coverage": sets,
        }

    return {name: [run(seed, *pair) for seed, pair in enumerate(pairs)] for name, pairs in values.items()}


FOUND = results({"full": [(0.9, 0.7), (0.8, 0.6)], "other": [(0.9, 0.5), (0.7, 0.5)]})


def test_the_table_by_hand():
    summary = summarise(FOUND, "test")
    assert summary.columns == ("clean a", "clean fused", "a-gaussian-1", "without-a", "all", "coverage", "seconds")
    np.testing.assert_allclose(summary.values["full"][0], [50, 90, 70, 20, 80, 90, 5])
    expected = paired_difference([70, 60], [80, 70])
    assert summary.difference("other") == pytest.approx(tuple(expected), nan_ok=True)


def test_a_variant_may_name_its_reference(tmp_path):
    values = {"full": [(0.9, 0.7), (0.8, 0.6)], "x": [(0.9, 0.5), (0.7, 0.5)], "x, neither": [(0.5, 0.5), (0.5, 0.4)]}
    summary = summarise(results(values), "test", {"x": "x, neither"})
    assert summary.difference("x") == pytest.approx(tuple(paired_difference([70, 60], [50, 45])), nan_ok=True)
    assert summary.difference("x, neither") == pytest.approx(tuple(paired_difference([50, 45], [80, 70])), nan_ok=True)
    table = summary.table()
    assert [row[-1] for row in table.rows] == ["–", "x, neither", "full"]
    markdown, _ = write_tables(results(values), tmp_path, {"x": "x, neither"})
    assert markdown.read_text("utf-8").startswith("| validation | clean a | clean fused |")


def test_optimizers_are_compared_with_neither_part_under_the_same_one():
    base = recipe("handwritten")
    configs = variants(base, ["parts", "optimizer"])
    neither = "neither (joint + unimodal)"
    assert references(base, ["parts", "optimizer"], configs) == {
        "full": neither,  # Adam is the optimizer of the recipe
        "SGD": "SGD, neither",
        "Adagrad": "Adagrad, neither",
        "AdamW": "AdamW, neither",
    }
    for name in ("SGD", "Adagrad", "AdamW"):
        both, other = configs[name], configs[f"{name}, neither"]
        assert both.optimizer == other.optimizer
        assert (both.method, other.method.name) == (base.method, "joint-unimodal")
    assert references(base, ["parts"], configs) == {}
    alone = variants(base, ["optimizer"])
    assert references(base, ["optimizer"], alone)["full"] == "Adam, neither"


def test_tables_are_written(tmp_path):
    markdown, table = write_tables(FOUND, tmp_path)
    text = markdown.read_text(encoding="utf-8")
    assert "| full | 50.0 ± 0.0 | 85.0 ± 7.1 | 65.0 ± 7.1 | 20.0 ± 0.0 | 75.0 ± 7.1 |" in text
    assert "| -10.0 (-10.0 to -10.0) |" in text
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0]["part"] == "validation"
    assert float(rows[0]["all"]) == 80


@pytest.mark.parametrize(("text", "seeds"), [("0..4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,3..5", [0, 3, 4, 5])])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "4..0", "a", "0,0", "-1", "1.5"])
def test_bad_seeds(text):
    with pytest.raises(UserError, match="seeds must"):
        parse_seeds(text)


def test_every_axis_builds_and_names_are_folders(tmp_path):
    base = recipe("handwritten")
    configs = variants(base, list(AXES))
    assert configs["full"] == base
    assert len(set(map(str, configs.values()))) == len(configs)
    grid = Grid(tmp_path, configs, [0])
    assert len({grid.path(name, 0) for name in configs}) == len(configs)
    with pytest.raises(UserError, match="did you mean 'refresh'"):
        variants(base, ["refesh"])


def test_variants_of_ones_own():
    literal = parse_variants(["literal: method.name=cpsc-literal"])
    config = variants(recipe("handwritten"), [], literal)["literal"]
    assert (config.method.residual, config.method.divergence) == (1.0, "kl")
    for text in ("literal", "literal:", ": method.residual=1"):
        with pytest.raises(UserError, match="a variant must read"):
            parse_variants([text])


def test_seeds_of_the_command_line(cpsc, quick, tmp_path):
    arguments = ["train", "--seeds", "0,1", "--jobs", 2, "--out", tmp_path / "runs", *quick]
    outcome = cpsc(*arguments)
    assert outcome.code == 0, outcome.err
    assert "mean ± sd of 2 runs" in outcome.out
    runs = [json.loads((tmp_path / f"runs/default/seed-{s}/results.json").read_text()) for s in (0, 1)]
    assert [run["seed"] for run in runs] == [0, 1]
    assert runs[0]["test"] != runs[1]["test"]
    times = [(tmp_path / f"runs/default/seed-{s}/results.json").stat().st_mtime_ns for s in (0, 1)]
    assert cpsc(*arguments).code == 0  # what is done is not done again
    assert times == [(tmp_path / f"runs/default/seed-{s}/results.json").stat().st_mtime_ns for s in (0, 1)]
    other = cpsc(*arguments, "--set", "batch_size=32")
    assert other.code == 2
    assert "holds a run of another configuration" in other.err


def test_an_ablation_is_a_table_and_a_plot(cpsc, quick, tmp_path):
    pytest.importorskip("matplotlib", reason="plots are drawn by matplotlib")
    settings = [part for part in quick if part not in {"--epochs", "4"}] + ["--set", "epochs=3"]
    outcome = cpsc(
        *("ablate", "--axes", "parts", "--seeds", "0", "--jobs", 2, "--out", tmp_path / "a", *settings),
        *("--variant", "narrow: method.top_k=1"),
    )
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "a/table.md").read_text(encoding="utf-8")
    for name in ("full", "joint", "neither (joint + unimodal)", "GSC only", "RSC only", "narrow"):
        assert f"| {name} |" in text
    assert (tmp_path / "a/plot.png").read_bytes().startswith(b"\x89PNG")


def test_own_variants_alone_on_chosen_modalities(cpsc, tmp_path):
    pytest.importorskip("matplotlib", reason="plots are drawn by matplotlib")
    outcome = cpsc(
        *("ablate", "--axes", "none", "--modalities", "fou,mor", "--seeds", "0", "--out", tmp_path / "a"),
        *("--set", "epochs=2", "--set", "method.warmup=1", "--set", "noise=[]", "--variant", "narrow: method.top_k=1"),
    )
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "a/table.md").read_text("utf-8")
    assert "| full |" in text
    assert "| narrow |" in text
    assert "joint" not in text
    assert "without-mor" in next((tmp_path / "a").rglob("full/seed-0/results.json")).read_text("utf-8")


def test_a_run_that_fails_is_named(small_config, tmp_path):
    table = small_config.to_plain()
    table["data"]["file"] = "absent.npz"
    grid = Grid(tmp_path, {"broken": type(small_config).from_plain(table)}, [0])
    with pytest.raises(UserError, match=r"broken seed 0 ended with code 2: .*absent\.npz: no such file"):
        grid.run(executor=Local(), console=Output(quiet=True), quiet=True)
    with pytest.raises(UserError, match="jobs must be at least 1"):
        grid.run(executor=Local(jobs=0), console=Output(quiet=True))
