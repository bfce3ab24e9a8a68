"""Prediction sets of samples that lack any of more than four modalities."""

from itertools import combinations

import numpy as np
import pytest

import cpsc_train
from cpsc_train.config import override
from cpsc_train.deployment.model import DeployedModel
from cpsc_train.models import FUSED
from cpsc_train.prediction.state import restore
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder
from cpsc_train.training.results import fitted_variants, thresholds_of
from cpsc_train.training.run import opened

VIEWS = ("fou", "kar", "fac", "zer", "mor")
PATTERNS = [absent for size in range(5) for absent in combinations(VIEWS, size)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_file):
    changes = {"data.file": str(small_file), "splits.calibration": 0.3, "epochs": 1, "noise": []}
    folder = tmp_path_factory.mktemp("views") / "run"
    cpsc_train.train(override(recipe("handwritten", modalities=VIEWS), changes), folder)
    return folder


def test_thresholds_are_those_of_the_calibration_rows_without_the_modalities(run):
    with opened(RunFolder(run)) as (setup, evaluator):
        variants = fitted_variants(setup.config.inference, evaluator)
        expected = thresholds_of(evaluator, variants)
        for name in ("plain", "trust"):
            found = restore(RunFolder(run), device=None, inference=name).thresholds
            assert found.state_dict(FUSED, PATTERNS) == expected[name].state_dict(FUSED, PATTERNS)


def test_samples_with_one_of_five_modalities(run, small_file):
    with np.load(small_file) as arrays:
        given = arrays["fac"]
    model = cpsc_train.load(run)
    batch = model.predict({"fac": given})
    assert batch.sets.sum(1).mean() < 9
    alone = model.predict({"fac": given[:1]})
    np.testing.assert_array_equal(alone.sets, batch.sets[:1])


def test_an_export_has_the_thresholds_of_all_patterns(run):
    thresholds = DeployedModel.from_run(run).description["thresholds"]
    assert [tuple(one["absent"]) for one in thresholds["patterns"]] == PATTERNS
    assert all(one["full"] is not None for one in thresholds["patterns"])
