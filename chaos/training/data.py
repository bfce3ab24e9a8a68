"""Unusual data and settings in a real run: what must be refused is refused in a sentence, the rest has finite results.

Classes that are missing, one class, a thousand, one calibration row, batches of one, a constant modality, one of noise,
shuffled labels over several seeds, ids twice, gradients that are NaN, sums that overflow half precision, and a
calibration buffer of a million rows. About two minutes.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _trials import Trials, options, workplace
from scipy.stats import binom
from torch import nn

from conformal_core import CalibrationBuffer
from cpsc_train.config import apply_settings
from cpsc_train.data import DataConfig, Dataset, Modality, Splits
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.recipes import recipe
from cpsc_train.training import RunConfig, resume, train
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

ALPHA = 0.1


@dataclass(frozen=True, kw_only=True)
class DefectConfig(DataConfig, name="defect"):
    """Gaussian classes in two vectors, with one defect."""

    modalities: tuple[str, ...] = ("left", "right")
    rows: int = 400
    classes: int = 4
    defect: str = ""
    """``constant``, ``noise``, ``shuffled`` or ``twice``."""
    seed: int = 0

    def load(self) -> Dataset:
        """Make it."""
        return Defect(self)


class Defect(Dataset):
    """All in memory."""

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
        """Return the samples at `rows`."""
        return self._values[modality][rows]


class Normalised(nn.Module):
    """An encoder with batch normalisation, which has nothing to go by in a batch of one."""

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(shape[0], dim), nn.BatchNorm1d(dim), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode."""
        return self.net(x)


class Poisoned(nn.Module):
    """An encoder whose gradient is NaN at one step, where the loss is not."""

    def __init__(self, shape: tuple[int, ...], dim: int, step: int) -> None:
        super().__init__()
        self.net, self.step, self.seen = nn.Linear(shape[0], dim), step, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode."""
        out = self.net(x)
        if out.requires_grad:
            self.seen += 1
            if self.seen == self.step:
                out.register_hook(lambda gradient: gradient * math.nan)
        return out


class Data:
    """The trials, and what they have in common."""

    def __init__(self, place: Path, trials: Trials, *, quick: bool, seed: int) -> None:
        self.place, self.trials, self.quick, self.seed = place, trials, quick, seed
        self.made = 0

    def config(self, *settings: str) -> RunConfig:
        """Return a run of seconds."""
        table = recipe("handwritten").to_plain() | {"epochs": 4, "noise": [], "feature_dim": 16, "batch_size": 32}
        table["data"] = {"name": "defect", "modalities": ["left", "right"]}
        table["encoders"] = {name: {"name": "mlp", "hidden": 16} for name in ("left", "right")}
        given = [
            "optimizer.lr=0.01",
            "method.warmup=1",
            "splits.calibration=0.2",
            "compute.threads=1",
            f"conformal.alpha={ALPHA}",
        ]
        return apply_settings(RunConfig.from_plain(table), [*given, *settings])

    def folder(self) -> Path:
        """Return the path of a new run."""
        self.made += 1
        return self.place / f"data-{self.made}"

    def trial(self, name: str, judge: Callable[[dict[str, Any]], str], *settings: str) -> None:
        """Train; `judge` says what is wrong with the results. A refusal is a fault here."""
        try:
            results = train(self.config(*settings), self.folder())
            fault = judge(results) or (infinite(results) if judge is not full else "")
        except Exception as error:  # is what is looked for
            self.trials.row(name, f"{type(error).__name__}: {error}", ok=False)
            return
        seen = results["test"]["clean"]
        said = f"accuracy {seen['accuracy']['fused']:.3f}, coverage {seen['coverage']['fused']['coverage']:.3f} {fault}"
        self.trials.row(name, said, ok=not fault)

    def refused(self, name: str, rule: str, *settings: str) -> Path:
        """Train what must be refused, in words that hold `rule`."""
        folder = self.folder()
        try:
            train(self.config(*settings), folder)
            self.trials.row(name, "was not refused", ok=False)
        except UserError as error:
            self.trials.row(name, error, ok=rule in str(error))
        except Exception as error:
            self.trials.row(name, f"{type(error).__name__}: {error}", ok=False)
        return folder

    def splits(self, name: str, **parts: list[int]) -> str:
        """Write a division, and return the setting that names it."""
        path = self.place / f"{name}.json"
        named = {part: [f"row-{row}" for row in rows] for part, rows in parts.items()}
        path.write_text(json.dumps(named), encoding="utf-8")
        return f"splits.file={path}"

    def classes_and_rows(self) -> None:
        """Try sizes and classes at their ends."""
        rows = {"train": range(200), "calibration": range(200, 280), "validation": range(280, 340)}
        rows |= {"test": range(340, 400)}
        whole = {part: list(held) for part, held in rows.items()}
        absent = whole | {"calibration": [row for row in whole["calibration"] if row % 4]}
        self.trial("a class absent from calibration", nothing, self.splits("absent", **absent))
        untrained = whole | {"train": [row for row in whole["train"] if row % 4]}
        self.trial("a class absent from training", nothing, self.splits("untrained", **untrained))
        untested = whole | {part: [row for row in whole[part] if row % 4] for part in ("validation", "test")}
        self.trial("a class absent from validation and test", nothing, self.splits("untested", **untested))
        one = whole | {"calibration": [200]}
        division = self.splits("one", **one)
        self.refused("one calibration row, α = 0.1", "too few for conformal.alpha", division)
        self.trial("one calibration row, α = 0.5", nothing, division, "conformal.alpha=0.5")
        self.trial("one calibration row, the released quantile", full, division, "conformal.quantile=released")
        for part in ("train", "validation", "test"):
            single = self.splits(f"one-{part}", **whole | {part: whole[part][:1]})
            self.trial(f"one {part} row", nothing, single)
        same = self.splits("same", **{part: [row for row in held if not row % 4] for part, held in whole.items()})
        self.trial("rows of one class only, of four", right, same, "conformal.alpha=0.2")
        self.trial("a data set of one class", right, "data.classes=1")
        self.trial("1,000 classes", nothing, "data.classes=1000", "data.rows=20000", "epochs=2")

    def batches(self) -> None:
        """Try batches of one, and a last one of one with batch normalisation."""
        self.trial("batch of one", nothing, "batch_size=1", "epochs=2", "data.rows=80")
        for size in (1, 2, 3, 10**6):
            self.trial(f"rolling refresh, slice of {size}", nothing, f"conformal.slice={size}")
        normalised = [f"encoders.{name}.{key}" for name in ("left", "right") for key in ("name=import", f"path={PATH}")]
        division = self.config().splits
        rows = next(n for n in range(160, 400) if len(Splits.draw(np.arange(n) % 4, division).train) % 32 == 1)
        self.trial("last batch of one, batch normalisation", nothing, f"data.rows={rows}", *normalised)
        self.refused("batches of one, batch normalisation", "batch", "batch_size=1", "data.rows=80", *normalised)

    def modalities(self) -> None:
        """Try modalities that say nothing, and labels that nothing says."""
        self.trial("a constant modality", uninformed, "data.defect=constant", "epochs=8")
        noisy = 'noise=[{modality="right",kind="gaussian",severity=1.0}]'
        self.trial("a constant modality, noise on it", nothing, "data.defect=constant", noisy)
        self.trial("a modality of noise", uninformed, "data.defect=noise", "epochs=8")
        seeds = 3 if self.quick else 10
        outside, accuracies = 0, []
        for seed in range(seeds):
            settings = ("data.defect=shuffled", "data.rows=2000", f"data.seed={self.seed + seed}", "epochs=3")
            results = train(self.config(*settings), self.folder())
            data, clean = results["data"], results["test"]["clean"]
            accuracies.append(clean["accuracy"]["fused"])
            outside += not within(clean["coverage"]["fused"]["coverage"], data["test"], data["calibration"])
        low, high = binom.interval(0.999, data["test"] * seeds, 0.25)
        mean = float(np.mean(accuracies))
        chance = low / (data["test"] * seeds) <= mean <= high / (data["test"] * seeds)
        told = f"coverage outside its 99.9% bound in {outside} of {seeds}; accuracy {mean:.3f}, chance 0.25"
        self.trials.row(f"labels shuffled, {seeds} seeds", told, ok=chance and outside == 0)
        self.refused("an id twice", "row-4", "data.defect=twice")
        twice = self.splits("twice", train=[1, 1, 2], calibration=[3], validation=[4], test=[5])
        self.refused("an id twice in a division", "row-1", twice)

    def gradients(self) -> None:
        """Let a gradient be NaN at a random step, in the middle and at the end of an epoch."""
        draw = np.random.default_rng(self.seed)
        steps = [int(step) for step in draw.integers(2, 30, 3 if self.quick else 8)]
        poisoned = ["encoders.left.name=import", "encoders.left.path=data:Poisoned", "checkpoints.every_steps=1"]
        for step in steps:
            settings = (*poisoned, f"encoders.left.options.step={step}", "data.rows=400")
            folder = self.refused(f"gradient NaN at step {step}", "not finite", *settings)
            saved = [*folder.glob("*.pt"), *folder.glob("checkpoints/*.pt")]
            bad = [path.name for path in saved if not finite(torch.load(path, weights_only=True))]
            self.trials.row(f"gradient NaN at step {step}, what was saved", f"not finite: {bad}", ok=not bad)
            (folder / "config.toml").write_text(
                (folder / "config.toml").read_text(encoding="utf-8").replace(f"step = {step}", "step = 0"),
                encoding="utf-8",
            )
            results = resume(folder)
            fault = infinite(results)
            self.trials.row(f"gradient NaN at step {step}, fixed and resumed", fault or "finite", ok=not fault)

    def half_precision(self) -> None:
        """Let scaled gradients overflow for the first steps, with every method, and values themselves."""
        for name in MethodConfig.members:
            config = self.config("compute.precision=fp16", "epochs=6")
            config = replace(config, method=MethodConfig.named(name).for_epochs(6))
            trainer = Trainer(Setup.build(config))
            trainer.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
            try:
                for _ in range(config.epochs):
                    record = trainer.train_epoch(Quiet())
                    record |= {"validation": trainer.validate()}
                state = trainer.state_dict()
                bad = [] if finite(state) else ["the state is not finite"]
                scale = trainer.stepper.scaler.get_scale()
                bad += [] if scale < 2.0**40 else ["no step was skipped"]
                said = f"scale 2^{math.log2(scale):.0f}, loss {sum(record['loss'].values()):.3f}"
                self.trials.row(f"fp16 overflow, {name}", f"{said} {bad or ''}", ok=not bad)
            except Exception as error:
                self.trials.row(f"fp16 overflow, {name}", f"{type(error).__name__}: {error}", ok=False)
        self.refused("values beyond fp16", "bf16", "compute.precision=fp16", "optimizer.lr=1e6", "epochs=6")

    def million(self) -> None:
        """Calibrate on a million rows: the buffer alone against sorting, and in a run."""
        n = 10**6
        scores = np.random.default_rng(self.seed).uniform(size=n)
        buffer = CalibrationBuffer(n)
        began = time.perf_counter()
        for start in range(0, n, n // 20):
            buffer.overwrite(np.arange(start, start + n // 20), scores[start : start + n // 20])
        filled = time.perf_counter()
        qhat = float(buffer.quantile(alpha=ALPHA))
        asked = time.perf_counter()
        exact = np.sort(scores)[math.ceil((n + 1) * 0.9) - 1]
        again = CalibrationBuffer(n)
        again.load_state_dict(buffer.state_dict())
        ok = qhat == exact == float(again.quantile(alpha=ALPHA))
        told = f"filled in {filled - began:.3f} s, q̂ in {asked - filled:.3f} s, equal to sorting: {qhat == exact}"
        self.trials.row("10⁶ scores in a buffer", told, ok=ok)
        settings = [f"data.rows={n + 8000}", f"splits.calibration={n}", "batch_size=512", "epochs=2"]
        began = time.perf_counter()
        try:
            folder = self.folder()
            results = train(self.config(*settings), folder)
        except Exception as error:
            self.trials.row("10⁶ calibration rows in a run", f"{type(error).__name__}: {error}", ok=False)
            return
        last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        steps = -(-results["data"]["train"] // 512)
        told = f"{last['time']['refresh'] / steps:.2f} s a refresh, {time.perf_counter() - began:.0f} s in all"
        self.trials.row("10⁶ calibration rows in a run", told, ok=math.isfinite(last["qhat"]["qhat_fused"]))


class Quiet:
    """Hears of steps."""

    def step(self) -> None:
        """Say nothing."""


PATH = "data:Normalised"


def nothing(_results: dict[str, Any]) -> str:
    """Find no fault."""
    return ""


def full(results: dict[str, Any]) -> str:
    """Find a fault in anything but full sets, which is what an infinite q̂ means."""
    return "" if results["test"]["clean"]["coverage"]["fused"]["mean_size"] == 4 else "sets are not full"


def right(results: dict[str, Any]) -> str:
    """Find a fault in anything but certainty."""
    return "" if results["test"]["clean"]["accuracy"]["fused"] == 1 else "not always right"


def uninformed(results: dict[str, Any]) -> str:
    """Find a fault where a modality that says nothing is better than chance, or coverage does not hold."""
    clean, data = results["test"]["clean"], results["data"]
    _low, high = binom.interval(0.9999, data["test"], 1 / data["classes"])
    if clean["accuracy"]["right"] * data["test"] > high:
        return f"accuracy {clean['accuracy']['right']:.3f} of what says nothing"
    held = within(clean["coverage"]["fused"]["coverage"], data["test"], data["calibration"])
    return "" if held else "coverage does not hold"


def within(coverage: float, tested: int, calibrated: int) -> bool:
    """Return whether a coverage lies within the 99.9 % bound of test rows, given a q̂ that is itself random.

    The number covered is beta-binomial; its tails are simulated.
    """
    rank = math.ceil((calibrated + 1) * (1 - ALPHA))
    draw = np.random.default_rng(0)
    counts = draw.binomial(tested, draw.beta(rank, calibrated + 1 - rank, 200_000))
    low = np.quantile(counts, 0.0005)
    return coverage * tested >= low  # ties make sets larger, which is no fault


def infinite(value: Any, path: str = "") -> str:
    """Return the first figure of the results that is not finite."""
    if isinstance(value, dict):
        return next((found for key, item in value.items() if (found := infinite(item, f"{path}.{key}"))), "")
    if isinstance(value, list):
        return next((found for item in value if (found := infinite(item, path))), "")
    return f"{path} is {value}" if isinstance(value, float) and not math.isfinite(value) else ""


def finite(state: Any) -> bool:
    """Return whether all tensors of a state are finite."""
    if isinstance(state, dict):
        return all(map(finite, state.values()))
    if isinstance(state, (list, tuple)):
        return all(map(finite, state))
    return not isinstance(state, torch.Tensor) or bool(state.isfinite().all())


def main() -> int:
    """Train on all of it."""
    asked = options(__doc__)
    torch.set_num_threads(1)
    trials = Trials()
    with workplace() as place:
        data = Data(place, trials, quick=asked.quick, seed=asked.seed)
        data.classes_and_rows()
        data.batches()
        data.modalities()
        data.gradients()
        data.half_precision()
        data.million()
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
