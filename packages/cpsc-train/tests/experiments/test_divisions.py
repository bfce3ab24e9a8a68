import csv
import io

import numpy as np
import pytest

from cpsc_train.config import read_toml
from cpsc_train.errors import UserError
from cpsc_train.experiments import Grid, contenders, parse_divisions, parse_variants
from cpsc_train.experiments.executors import Local
from cpsc_train.experiments.scoreboard import Cost, scoreboard
from cpsc_train.experiments.statistics import paired_difference, smallest_difference
from cpsc_train.experiments.suites import SUITES
from cpsc_train.experiments.tune import TUNED, of_kinds, write_choices
from cpsc_train.experiments.variants import COLUMNS, expanded, lines
from cpsc_train.output import Output
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder
from cpsc_train.writing import as_csv

CSV = """\
data,row,method,inference,division,overlap,seed,condition,modality,kind,level,seen,accuracy,macro_f1,ece,coverage,size,\
cpu_seconds
toy,joint,joint,plain,2,0.25,1,clean,,clean,,0,0.9,0.8,0.1,0.95,1.5,3
toy,joint,joint,plain,2,0.25,1,a-blur-2,a,blur,2,0,0.5,0.8,0.1,0.95,1.5,3
toy,joint,joint,plain,2,0.25,1,without-b,b,absent,,0,0.4,0.8,0.1,0.95,1.5,3
toy,joint + trust,joint,trust,2,0.25,1,clean,,clean,,0,0.8,0.8,0.1,0.95,1.5,3
toy,joint + trust,joint,trust,2,0.25,1,a-blur-2,a,blur,2,1,0.7,0.8,0.1,0.95,1.5,3
"""


def figures(accuracy):
    names = ("accuracy", "macro_f1", "expected_calibration_error")
    values = dict(zip(names, (accuracy, 0.8, 0.1), strict=True))
    return {name: {"fused": value} for name, value in values.items()} | {
        "coverage": {"fused": {"coverage": 0.95, "mean_size": 1.5}}
    }


def run(**changes):
    part = {"clean": figures(0.9), "a-blur-2": figures(0.5), "without-b": figures(0.4)}
    trusted = {"clean": figures(0.8), "a-blur-2": figures(0.7)}
    return {
        "data": {"name": "toy", "modalities": ["a", "b"]},
        "method": "joint",
        "seed": 1,
        "division": 2,
        "overlap": 0.25,
        "cpu_seconds": 3.0,
        "conditions": {"a-blur-2": [{"modality": "a", "kind": "blur", "severity": 1.5, "share": 1.0, "level": 2}]},
        "test": part,
        "validation": part,
        "coverage": {"calibration": {}},
        "inference": {"trust": {"test": trusted, "validation": trusted, "seen": ["a:blur"]}},
    } | changes


def test_lines_of_every_run_and_condition():
    assert as_csv(lines(expanded({"joint": [run()]}))) == CSV
    assert list(csv.DictReader(io.StringIO(CSV)).fieldnames) == list(COLUMNS)


def test_divisions_have_folders_of_their_own(small_config, tmp_path):
    def grid(divisions):
        return Grid(tmp_path, {"a b": small_config}, [3, 4], divisions)

    assert grid([0, 1]).path("a b", 3, 1) == tmp_path / "a_b/division-1/seed-3"
    placed = {(job.seed, job.division): config for job, config in grid("each")._configs.items()}
    assert {key: (c.seed, c.splits.seed) for key, c in placed.items()} == {(3, 3): (3, 3), (4, 4): (4, 4)}
    assert [tuple(job)[1:] for job in grid([0, 1])._configs] == [(3, 0), (4, 0), (3, 1), (4, 1)]
    assert (parse_divisions("0..2"), parse_divisions("each")) == ([0, 1, 2], "each")
    filed = type(small_config).from_plain(small_config.to_plain() | {"splits": {"file": "splits.json"}})
    with pytest.raises(UserError, match=r"splits\.file is 'splits\.json': leave one out"):
        Grid(tmp_path, {"a": filed}, [0], [0])


@pytest.mark.parametrize(("official", "overlap"), [(False, 0.25), (True, 0.0)])
def test_what_is_not_official_is_drawn_anew(small_config, tmp_path, monkeypatch, official, overlap):
    """Two divisions differ in their test rows, a fifth, unless these are official."""
    table = small_config.to_plain()
    table["epochs"], table["method"] = 1, {"name": "joint"}
    config = type(small_config).from_plain({key: value for key, value in table.items() if key != "splits"})
    grid = Grid(tmp_path, {"joint": config}, [0], [0, 1])
    runs = grid.run(executor=Local(), console=Output(quiet=True), quiet=True)["joint"]
    folders = [RunFolder(grid.path("joint", 0, division)).path / "splits.npz" for division in (0, 1)]
    assert folders[0].read_bytes() != folders[1].read_bytes()
    if official:
        monkeypatch.setattr("cpsc_train.experiments.grid._test_ids", lambda _: "the official ones")
        runs = grid.run(executor=Local(), console=Output(quiet=True), quiet=True)["joint"]
    assert [(one["division"], one["overlap"]) for one in runs] == [(0, overlap), (1, overlap)]
    assert all(one["cpu_seconds"] > 0 for one in runs)


def test_a_scoreboard_of_divisions_uses_them_as_units():
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.4, 0.9, 6) for name in ("joint", "cpsc", "tmc")}
    places = [(division, seed) for division in (0, 1, 2) for seed in (0, 1)]

    def one(accuracy, division, seed):
        part = {"clean": figures(accuracy), "a-blur-2": figures(accuracy)}
        return run(test=part, seed=seed, division=division, inference={})

    results = {name: [one(v, *place) for v, place in zip(row, places, strict=True)] for name, row in values.items()}
    costs = {name: [Cost(1.0, 1.0)] * 6 for name in results}
    board = scoreboard(results, costs, SUITES["noise"], "noise", reference="joint")
    row = next(row for row in board.rows if row.name == "cpsc")
    divisions = [division for division, _ in places]
    expected = paired_difference(100 * values["cpsc"], 100 * values["joint"], divisions=divisions, overlap=0.25)
    assert tuple(row.difference) == pytest.approx(tuple(expected))
    apart = [100 * (values[name] - values["joint"]).reshape(3, 2).mean(1) for name in ("cpsc", "tmc")]
    spread = np.median([differences.std(ddof=1) for differences in apart])
    levels = [smallest_difference(spread, 3, overlap=0.25, level=level) for level in (0.05, 0.025)]
    assert board.smallest == pytest.approx(levels)
    assert "means over 3 divisions of the data, paired; the variance is corrected" in board.caption()
    assert f"{levels[0]:.1f} points in a single comparison, {levels[1]:.1f} after the correction" in board.caption()


def test_rows_named_after_a_tuned_one_have_its_values():
    tuned = {"joint": {"optimizer.lr": 0.5}, "joint, narrow": {"optimizer.lr": 0.25}}
    rows = ["joint, all rows: method.name=joint splits.calibration=9", "joint, narrow: method.name=joint feature_dim=8"]
    configs = contenders(recipe("handwritten"), ["joint", "tmc"], parse_variants(rows), tuned)
    assert [config.optimizer.lr for config in configs.values()] == [0.5, 0.001, 0.5, 0.25]


def test_a_goal_looks_at_chosen_kinds_alone():
    config = of_kinds(recipe("handwritten"), ["gaussian"])
    assert {noise.kind for noise in config.noise} == {"gaussian"}
    with pytest.raises(UserError, match="kind of noise"):
        of_kinds(recipe("handwritten"), ["fog"])


def test_what_a_search_chose_is_a_table(tmp_path):
    (tmp_path / TUNED).write_text(
        '[joint]\nbest = 81.6\ndefault = 80.0\ntrials = 8\nfailed = 1\nconditions = ["clean", "a-blur-2"]\n'
        'division = 0\ncpu_seconds = 120.0\nvalues = {"optimizer.lr" = 0.5}\ndefaults = {"optimizer.lr" = 0.1}\n'
    )
    assert read_toml(tmp_path / TUNED)
    text = write_choices(tmp_path, ["joint", "joint, all rows", "tmc"], tmp_path / "tuned.md").read_text("utf-8")
    assert "validation rows of division 0" in text
    assert "clean, a-blur-2" in text
    assert "2 minutes" in text
    assert "| joint | 80.0 | 81.6 | 8 | 1 | optimizer.lr=0.5 (0.1) |" in text
    assert "| joint, all rows | – | – | – | – | those of joint |" in text
    assert "| tmc | – | – | – | – | not tuned |" in text


def test_rows_with_a_run_that_fails_are_left_out_on_request(small_config, tmp_path):
    table = small_config.to_plain()
    table["epochs"], table["method"] = 1, {"name": "joint"}
    good = type(small_config).from_plain(table)
    bad = type(small_config).from_plain(table | {"data": table["data"] | {"file": "absent.npz"}})
    grid, console = Grid(tmp_path, {"bad": bad, "good": good}, [0]), Output(quiet=True)
    assert list(grid.run(executor=Local(), console=console, quiet=True, keep_going=True)) == ["good"]
    with pytest.raises(UserError, match="bad seed 0 ended with code 2"):
        grid.run(executor=Local(), console=console, quiet=True)
