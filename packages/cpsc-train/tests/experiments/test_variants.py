"""Options that count epochs are scaled to the run by every command, and only where they are not given."""

from __future__ import annotations

import pytest

from cpsc_train.cli.train import Train
from cpsc_train.cli.tune import Tune
from cpsc_train.experiments import contenders, variants
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
