"""Search for options: resumed, killed, failed, and what it may choose."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cpsc_train.cli import main
from cpsc_train.config import read_toml
from cpsc_train.errors import UserError
from cpsc_train.experiments import Grid, study, tune
from cpsc_train.experiments.executors import Local
from cpsc_train.methods import MethodConfig
from cpsc_train.output import Output
from cpsc_train.recipes import recipe

EPOCHS = 20


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


@pytest.mark.parametrize("text", ["[joint]\nbest = 3\n", "joint = 3\n", "[joint]\nvalues = [3]\n"])
def test_a_damaged_outcome_of_a_search(text, tmp_path, capsys):
    (tmp_path / "tuned.toml").write_text(text, encoding="utf-8")
    assert main(["benchmark", "--methods", "joint", "--tuned", str(tmp_path), "--out", str(tmp_path / "b")]) == 2
    assert "tuned.toml: joint.values must be a table of values by key, got" in capsys.readouterr().err


def test_a_search_is_gone_on_with(tmp_path, capsys):
    pytest.importorskip("optuna")
    out = tmp_path / "tune"
    command = ["tune", "--methods", "qmf", "--out", str(out), "--set", "epochs=2", "--set", "noise=[]", "-q"]
    assert main([*command, "--trials", "1"]) == 0
    first = (out / "qmf" / "trial-0" / "seed-0" / "results.json").stat().st_mtime_ns
    assert main([*command[:-1], "--trials", "2"]) == 0
    following = f"cpsc benchmark --set epochs=2 --set 'noise=[]' --methods qmf --tuned {out}"
    assert f"next: {following}\n" in capsys.readouterr().out
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
            executor=Local(), console=Output(), quiet=True
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
    tuning = tune.Tuning(tmp_path, {"joint": config}, trials=1, goal="clean")
    with tuning._workers.joined():
        tuning._study(study.open_storage(None, tmp_path), "joint", config)
    assert b"bucket/data" in (tmp_path / "study.db").read_bytes()
    assert b"secret" not in (tmp_path / "study.db").read_bytes()


def test_a_search_of_the_optimizer_has_rates_for_each(tmp_path):
    """The first trial is the recipe's; rates of SGD are 20 times those of Adam, within a factor of ten."""
    pytest.importorskip("optuna")
    command = ["tune", "--methods", "tmc", "--trials", "4", "--optimizers", "adam,sgd", "--goal", "clean", "-q"]
    assert main([*command, "--out", str(tmp_path), "--set", "epochs=2", "--set", "noise=[]"]) == 0
    tried = [read_toml(path) for path in sorted(tmp_path.glob("tmc/trial-*/seed-0/config.toml"))]
    lr = recipe("handwritten").optimizer.lr
    assert (tried[0]["optimizer"]["kind"], tried[0]["optimizer"]["lr"]) == ("adam", lr)
    assert {one["optimizer"]["kind"] for one in tried} == {"adam", "sgd"}
    for one in tried:
        middle = lr * (20 if one["optimizer"]["kind"] == "sgd" else 1)
        assert middle / 10.1 <= one["optimizer"]["lr"] <= 10.1 * middle
        assert 1 <= one["method"]["annealing"] <= 5  # two and a half times two epochs at most
    chosen = read_toml(tmp_path / tune.TUNED)["tmc"]["values"]
    assert set(chosen) == {"optimizer.kind", "optimizer.lr", "method.annealing"}


@pytest.mark.parametrize("optimizers", [("adam", "lion"), ("sgd",)])
def test_a_search_of_optimizers_holds_that_of_the_recipe(optimizers, tmp_path):
    pytest.importorskip("optuna")
    with pytest.raises(
        UserError, match="optimizers must be some of adam, adamw, adagrad, sgd, including that of the recipe"
    ):
        tune.Tuning(tmp_path, {"joint": recipe("handwritten")}, trials=1, goal="clean", optimizers=optimizers)


@pytest.mark.parametrize("storage", ["shared/study.log", "sqlite:///{}/other.db"])
def test_processes_share_the_trials_of_a_search(storage, tmp_path, monkeypatch):
    """As many trials as asked for in all, each in one process."""
    pytest.importorskip("optuna")
    storage = storage.format(tmp_path) if "://" in storage else str(tmp_path / storage)
    runs = []

    def run(grid, **_):
        (((name, *_), config),) = grid._configs.items()
        runs.append((name, config.optimizer.lr))
        time.sleep(0.05)
        return {name: [{"validation": {"clean": {"accuracy": {"fused": 0.5}}}, "cpu_seconds": 1.0}]}

    def search(_):
        tuning = tune.Tuning(tmp_path, {"joint": recipe("handwritten")}, trials=7, goal="clean", storage=storage)
        return tuning.run(executor=Local(jobs=2), console=Output(), quiet=True)["joint"]

    monkeypatch.setattr(Grid, "run", run)
    monkeypatch.setattr(tune, "POLL", 0.05)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(search, range(2))
    assert first == second
    assert first.trials == 7
    assert sorted(name for name, _ in runs) == [f"trial-{n}" for n in range(7)]
    assert len({lr for _, lr in runs}) == 7  # processes with one seed draw different values
    assert not (tmp_path / "study.db").exists()


def test_the_trial_of_a_killed_process_is_left_to_others_and_no_other_is(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shared = optuna.create_study(study_name="s", storage=study.open_storage(None, tmp_path))
    killed, other, third = (study.Workers(tmp_path / "workers") for _ in range(3))
    with other.joined(), third.joined():
        with killed.joined():
            interrupted = study.claim(shared, killed, 3, seed=0)
            value = interrupted.suggest_float("x", 0, 1)
            running = study.claim(shared, other, 3, seed=0)
        resumed = study.claim(shared, third, 3, seed=0)
        assert study.first_number(resumed) == interrupted.number
        assert resumed.suggest_float("x", 0, 1) == value
        last = study.claim(shared, third, 3, seed=0)
        assert study.claim(shared, third, 3, seed=0) is None
        for trial in (running, last, resumed):
            shared.tell(trial, 1.0)
    assert [study.first_number(trial) for trial in study.completed(shared)] == [0, 1, 3]


@pytest.mark.parametrize("storage", ["mysql+nodriver://u:secret@h/db", "nowhere://x"])
def test_storage_that_cannot_be_opened_is_named(storage, tmp_path, capsys):
    pytest.importorskip("optuna")
    command = ["tune", "--methods", "joint", "--out", str(tmp_path), "--storage", storage]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "cannot be opened as storage" in error
    assert "secret" not in error
