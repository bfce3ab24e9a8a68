"""The defaults of cpsc-rsc and cpsc-gsc are the options that the recipes train with."""

import inspect
from dataclasses import replace

import pytest

from cpsc_gsc import GradientSelfCalibration, collaborative_reliability, gsc_loss, gsc_weights
from cpsc_rsc import (
    Decomposition,
    MultimodalSelfCalibration,
    RepresentationSelfCalibration,
    component_reliability,
    divergence_loss,
)
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.recipes import RECIPES, recipe

MODALITIES = ("a", "b")


def default(function, name):
    return inspect.signature(function).parameters[name].default


@pytest.mark.parametrize("name", [None, *RECIPES])
def test_recipes_use_the_defaults_of_the_rsc_module(name, model):
    config = CPSCConfig() if name is None else recipe(name).method
    built = replace(config, parts="both").build(model, MODALITIES).rsc
    assert repr(built) == repr(MultimodalSelfCalibration(dict.fromkeys(MODALITIES, model.dim)))


def test_the_method_uses_the_defaults_of_gsc():
    config = CPSCConfig()
    for function in (gsc_weights, gsc_loss, GradientSelfCalibration):
        assert (default(function, "a"), default(function, "b")) == (config.a, config.b)
    kinds = default(collaborative_reliability, "kind"), default(gsc_loss, "reliability")
    assert {*kinds, default(GradientSelfCalibration, "reliability")} == {
        default(RepresentationSelfCalibration, "reliability")
    }
    assert default(GradientSelfCalibration, "mode") == "add"  # each sample's loss is weighted


def test_the_functions_of_rsc_have_the_defaults_of_the_module():
    for function, names in (
        (Decomposition, {n: n for n in ("components", "residual", "mixing", "match_magnitude")}),
        (Decomposition, {"kind": "decomposition"}),
        (divergence_loss, {"consistency": "consistency", "diversity": "diversity", "kind": "divergence"}),
        (component_reliability, {"kind": "reliability", "score": "score"}),
    ):
        for own, option in names.items():
            assert default(function, own) == default(RepresentationSelfCalibration, option)
