"""Options that count epochs are scaled to the run by every command, and only where they are not given."""

from __future__ import annotations

import pytest

from cpsc_train.cli import main
from cpsc_train.cli.train import Train
from cpsc_train.cli.tune import Tune
from cpsc_train.config import read_toml
from cpsc_train.errors import UserError
from cpsc_train.experiments import contenders, tune, variants
from cpsc_train.methods import MethodConfig
from cpsc_train.recipes import recipe


@pytest.mark.parametrize("name", ["tmc", "ecml", "ogm-ge", "di-mml", "relearning", "reconboost", "smv", "lfm"])
def test_every_command_scales_a_method_to_the_run(name):
    """`train`, `tune` and `benchmark`, a row of one's own, and a variant of an ablation run the same configuration."""
    trained = Train(method=name, epochs=20).configured()
    assert trained.method != MethodConfig.named(name)()
    assert Tune(set=("epochs=20",)).configuration(**{"method.name": name}) == trained
    base = recipe("handwritten", epochs=20)
    row = {"mine": [f"method.name={name}"]}
    assert contenders(base, [name])[name] == trained
    assert contenders(base, ["joint"], row)["mine"] == variants(base, [], row)["mine"] == trained
    assert Train(set=(f"method.name={name}", "epochs=20")).configured() == trained


def test_an_option_that_is_given_is_not_scaled():
    settings = ("method.name=tmc", "method.annealing=50")
    assert Train(epochs=20, set=settings).configured().method.annealing == 50
    assert Train(method="tmc", epochs=20, set=settings[1:]).configured().method.annealing == 50
    warmup = recipe("handwritten", epochs=20).method.warmup
    assert Train(epochs=20).configured().method.warmup == warmup  # the recipe's own method keeps its options


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


def test_a_method_with_frozen_heads_is_refreshed_once_an_epoch():
    base = recipe("handwritten")
    found = contenders(base, ["cpsc-released", "joint"])
    assert [found[name].conformal.refresh for name in ("cpsc-released", "joint")] == ["epoch", base.conformal.refresh]
    with pytest.raises(UserError, match=r"the frozen heads of cpsc-released require conformal\.refresh = epoch"):
        Train(method="cpsc-released").configured()
    assert Train(method="cpsc-released", refresh="epoch").configured().method.warmup == base.method.warmup
