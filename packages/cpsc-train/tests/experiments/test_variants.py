"""Configurations of a comparison: options scaled to the run by every command, and rows of one's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpsc_train.cli.train import Train
from cpsc_train.cli.tune import Tune
from cpsc_train.errors import UserError
from cpsc_train.experiments import ablated, contenders, parse_variants, variants
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


def test_a_method_with_frozen_heads_is_refreshed_once_an_epoch():
    base = recipe("handwritten")
    found = contenders(base, ["cpsc-released", "joint"])
    assert [found[name].conformal.refresh for name in ("cpsc-released", "joint")] == ["epoch", base.conformal.refresh]
    with pytest.raises(UserError, match=r"the frozen heads of cpsc-released require conformal\.refresh = epoch"):
        Train(method="cpsc-released").configured()
    assert Train(method="cpsc-released", refresh="epoch").configured().method.warmup == base.method.warmup


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


def test_an_ablation_starts_from_both_parts():
    base = recipe("handwritten")
    assert ablated(base).method == replace(base.method, parts="both")
    for kept in (replace(base, method=replace(base.method, parts="rsc")), variants(base, ["parts"])["joint"]):
        assert ablated(kept) == kept
