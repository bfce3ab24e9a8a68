"""Unusual data and settings in real runs: invalid ones are refused in a sentence, the others have finite results."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conformal_core import CalibrationBuffer
from cpsc_train.config import apply_settings
from cpsc_train.data import DataConfig, Dataset, Modality, Splits
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.recipes import recipe
from cpsc_train.training import RunConfig, resume, train, with_method
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

stats = pytest.importorskip("scipy.stats")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ALPHA = 0.1
PARTS = {"train": range(200), "calibration": range(200, 280), "validation": range(280, 340), "test": range(340, 400)}


@dataclass(frozen=True, kw_only=True)
class DefectConfig(DataConfig, name="defect"):
    """Gaussian classes in two vectors, with one defect: `constant`, `noise`, `shuffled` or `twice`."""

    modalities: tuple[str, ...] = ("left", "right")
    rows: int = 400
    classes: int = 4
    defect: str = ""
    seed: int = 0

    def load(self) -> Dataset:
        return Defect(self)


DataConfig.register(DefectConfig)


class Defect(Dataset):
    def __init__(self, config: DefectConfig) -> None:
        draw = np.random.default_rng([config.seed, 7])
        self.classes = [str(label) for label in range(config.classes)]
        self.labels = np.arange(config.rows) % config.classes
        self.ids = [f"row-{row}" for row in range(config.rows)]
        self.modalities = {name: Modality(kind="vector", shape=(8,)) for name in config.modalities}
        centres = draw.normal(size=(config.classes, 8))
        self._values = {
            name: (centres[self.labels] + draw.normal(size=(config.rows, 8))).astype(np.float32)
            for name in config.modalities
        }
        if config.defect == "constant":
            self._values["right"][:] = 0.1  # whose mean is not exactly itself
        elif config.defect == "noise":
            self._values["right"] = draw.normal(size=(config.rows, 8)).astype(np.float32)
        elif config.defect == "shuffled":
            self.labels = draw.permutation(self.labels)
        elif config.defect == "twice":
            self.ids[5] = self.ids[4]

    def read(self, modality: str, rows: np.ndarray, /) -> np.ndarray:
        return self._values[modality][rows]


class Normalised(nn.Module):
    """An encoder with batch normalisation, which a batch of one row does not support."""

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(shape[0], dim), nn.BatchNorm1d(dim), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Poisoned(nn.Module):
    """An encoder whose gradient is NaN at one step, where the loss is not."""

    def __init__(self, shape: tuple[int, ...], dim: int, step: int) -> None:
        super().__init__()
        self.net, self.step, self.calls = nn.Linear(shape[0], dim), step, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.net(x)
        if out.requires_grad:
            self.calls += 1
            if self.calls == self.step:
                out.register_hook(lambda gradient: gradient * math.nan)
        return out


def config(*settings: str) -> RunConfig:
    """Return a run of seconds on data with a defect."""
    table = recipe("handwritten", inference=()).to_plain() | {
        "epochs": 4,
        "noise": [],
        "feature_dim": 16,
        "batch_size": 32,
    }
    table["data"] = {"name": "defect", "modalities": ["left", "right"]}
    table["encoders"] = {name: {"name": "mlp", "hidden": 16} for name in ("left", "right")}
    common = ["optimizer.lr=0.01", "method.warmup=1", "splits.calibration=0.2", "compute.threads=1"]
    return apply_settings(RunConfig.from_plain(table), [*common, f"conformal.alpha={ALPHA}", *settings])


@pytest.fixture
def encoder(monkeypatch):
    """Return the settings of an encoder of this module."""
    monkeypatch.setitem(sys.modules, "unusual", sys.modules[__name__])
    return lambda modality, name: [f"encoders.{modality}.name=import", f"encoders.{modality}.path=unusual:{name}"]


@pytest.fixture
def splits(tmp_path):
    """Write a division of 400 rows, and return the setting that names it."""

    def write(**parts):
        path = tmp_path / "splits.json"
        rows = {name: [f"row-{row}" for row in part] for name, part in (PARTS | parts).items()}
        path.write_text(json.dumps(rows), encoding="utf-8")
        return f"splits.file={path}"

    return write


def finite(value: Any) -> bool:
    """Whether all numbers of results, or all tensors of a state, are finite."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)


def assert_covers(coverage: float, tested: int, calibrated: int) -> None:
    """Check that coverage is not below the 99.95 % bound; the number covered is beta-binomial, and ties add to it."""
    rank = math.ceil((calibrated + 1) * (1 - ALPHA))
    assert coverage * tested >= stats.betabinom(tested, rank, calibrated + 1 - rank).ppf(0.0005)


def others(part):
    """Return the rows of a part that are not of class 0."""
    return [row for row in PARTS[part] if row % 4]


@pytest.mark.parametrize(
    "parts",
    [
        {"calibration": others("calibration")},
        {"train": others("train")},
        {"validation": others("validation"), "test": others("test")},
        {"train": PARTS["train"][:1]},
        {"validation": PARTS["validation"][:1]},
        {"test": PARTS["test"][:1]},
    ],
    ids=lambda parts: ", ".join(f"{name} {len(rows)}" for name, rows in parts.items()),
)
def test_a_class_without_rows_and_parts_of_one_row(tmp_path, splits, parts):
    assert finite(train(config(splits(**parts)), tmp_path / "run"))


def test_one_calibration_row(tmp_path, splits):
    division = splits(calibration=[200])
    with pytest.raises(UserError, match=r"too few for conformal\.alpha"):
        train(config(division), tmp_path / "refused")
    assert finite(train(config(division, "conformal.alpha=0.5"), tmp_path / "half"))
    results = train(config(division, "conformal.quantile=released"), tmp_path / "released")
    assert results["test"]["clean"]["coverage"]["fused"]["mean_size"] == 4  # an infinite q̂ makes full sets


def test_rows_of_one_class(tmp_path, splits):
    same = splits(**{part: [row for row in rows if not row % 4] for part, rows in PARTS.items()})
    for name, settings in {"of four": [same, "conformal.alpha=0.2"], "of one": ["data.classes=1"]}.items():
        results = train(config(*settings), tmp_path / name)
        assert finite(results)
        assert results["test"]["clean"]["accuracy"]["fused"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        ["data.classes=1000", "data.rows=20000", "epochs=2"],
        ["batch_size=1", "epochs=2", "data.rows=80"],
        *([f"conformal.slice={size}"] for size in (1, 2, 3, 10**6)),
    ],
    ids=lambda settings: settings[0],
)
def test_sizes_at_their_ends(tmp_path, settings):
    assert finite(train(config(*settings), tmp_path / "run"))


def test_batch_normalisation_and_batches_of_one(tmp_path, encoder):
    normalised = [*encoder("left", "Normalised"), *encoder("right", "Normalised")]
    division = config().splits
    rows = next(n for n in range(160, 400) if len(Splits.draw(np.arange(n) % 4, division).train) % 32 == 1)
    assert finite(train(config(f"data.rows={rows}", *normalised), tmp_path / "last"))
    with pytest.raises(UserError, match="batch"):
        train(config("batch_size=1", "data.rows=80", *normalised), tmp_path / "refused")


@pytest.mark.parametrize("defect", ["constant", "noise"])
def test_a_modality_without_information(tmp_path, defect):
    results = train(config(f"data.defect={defect}", "epochs=8"), tmp_path / "run")
    clean, data = results["test"]["clean"], results["data"]
    high = stats.binom.interval(0.9999, data["test"], 1 / data["classes"])[1]
    assert finite(results)
    assert clean["accuracy"]["right"] * data["test"] <= high
    assert_covers(clean["coverage"]["fused"]["coverage"], data["test"], data["calibration"])


def test_noise_on_a_constant_modality(tmp_path):
    noise = 'noise=[{modality="right",kind="gaussian",severity=1.0}]'
    assert finite(train(config("data.defect=constant", noise), tmp_path / "run"))


def test_shuffled_labels(tmp_path):
    seeds, accuracies = 10, []
    for seed in range(seeds):
        settings = ("data.defect=shuffled", "data.rows=2000", f"data.seed={seed}", "epochs=3")
        results = train(config(*settings), tmp_path / f"run-{seed}")
        data, clean = results["data"], results["test"]["clean"]
        accuracies.append(clean["accuracy"]["fused"])
        assert_covers(clean["coverage"]["fused"]["coverage"], data["test"], data["calibration"])
    tested = data["test"] * seeds
    low, high = stats.binom.interval(0.999, tested, 0.25)
    assert low <= np.mean(accuracies) * tested <= high


def test_an_id_twice(tmp_path, splits):
    with pytest.raises(UserError, match="row-4"):
        train(config("data.defect=twice"), tmp_path / "run")
    twice = splits(train=[1, 1, 2], calibration=[3], validation=[4], test=[5])
    with pytest.raises(UserError, match="row-1"):
        train(config(twice), tmp_path / "again")


@pytest.mark.parametrize("step", np.random.default_rng(0).integers(2, 30, 8).tolist())
def test_a_gradient_that_is_nan(tmp_path, encoder, step):
    """The run stops, what it has saved is finite, and it can be resumed once the encoder is fixed."""
    settings = [*encoder("left", "Poisoned"), f"encoders.left.options.step={step}", "checkpoints.every_steps=1"]
    run = tmp_path / "run"
    with pytest.raises(UserError, match="not finite"):
        train(config(*settings), run)
    assert all(finite(torch.load(path, weights_only=True)) for path in run.glob("*.pt"))
    assert finite(Checkpoints(run / "checkpoints", 1, Process()).newest() or {})
    text = (run / "config.toml").read_text(encoding="utf-8")
    (run / "config.toml").write_text(text.replace(f"step = {step}", "step = 0"), encoding="utf-8")
    assert finite(resume(run))


class Quiet:
    """Receives progress of steps."""

    def step(self):
        pass


@pytest.mark.parametrize("name", sorted(MethodConfig.members))
def test_gradients_that_overflow_in_half_precision(name):
    options = with_method(config("compute.precision=fp16", "epochs=6"), MethodConfig.named(name).for_epochs(6))
    trainer = Trainer(Setup.build(options))
    trainer.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    for _ in range(options.epochs):
        assert finite(trainer.train_epoch(Quiet())["loss"])
        trainer.validate()
    assert finite(trainer.state_dict())
    assert trainer.stepper.scaler.get_scale() < 2.0**40  # steps were skipped


def test_values_beyond_half_precision(tmp_path):
    with pytest.raises(UserError, match="bf16"):
        train(config("compute.precision=fp16", "optimizer.lr=1e6", "epochs=6"), tmp_path / "run")


def test_a_million_calibration_rows(tmp_path):
    n = 10**6
    scores = np.random.default_rng(0).uniform(size=n)
    buffer, again = CalibrationBuffer(n), CalibrationBuffer(n)
    for start in range(0, n, n // 20):
        buffer.overwrite(np.arange(start, start + n // 20), scores[start : start + n // 20])
    again.load_state_dict(buffer.state_dict())
    exact = np.sort(scores)[math.ceil((n + 1) * (1 - ALPHA)) - 1]
    assert float(buffer.quantile(alpha=ALPHA)) == float(again.quantile(alpha=ALPHA)) == exact
    settings = [f"data.rows={n + 8000}", f"splits.calibration={n}", "batch_size=512", "epochs=2"]
    train(config(*settings), tmp_path / "run")
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert finite(last["in_loop_quantile"])
