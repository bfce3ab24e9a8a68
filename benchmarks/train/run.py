"""Cost of self-calibration: epochs of CPSC against cross-entropy on the same model, by part of the step.

    python benchmarks/train/run.py                                    handwritten and two ResNet18 streams at 64×64
    python benchmarks/train/run.py --av-digits DIR                    real sound and images beside them
    python benchmarks/train/run.py --workloads resnet18 --device cuda

Ratios are of medians over rounds, in each of which every variant trains an epoch after warm-up, in turn, in one
process. Memory is the peak of a process of its own. Compare ratios, not seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import cpsc_train.methods.cpsc.method as cpsc_module
from cpsc_train.config import apply_settings
from cpsc_train.data import DataConfig, Dataset, Modality
from cpsc_train.methods.cpsc import CPSCConfig
from cpsc_train.models.encoders.resnet import ResNetConfig
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training import ComputeConfig, ConformalConfig, OptimizerConfig, RunConfig
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

VARIANTS = {
    "joint": ["method.name=joint"],
    "joint + unimodal": ["method.name=joint-unimodal"],
    "CPSC, rolling": [],
    "CPSC, epoch": ["conformal.refresh=epoch"],
    "CPSC, exact": ["conformal.refresh=exact"],
}
PARTS = ("data", "forward", "RSC", "GSC", "backward", "step", "refresh")


@dataclass(frozen=True, kw_only=True)
class StreamsConfig(DataConfig, name="streams"):
    modalities: tuple[str, ...] = ("left", "right")
    rows: int = 640
    size: int = 64

    def load(self) -> Dataset:
        return Streams(self)


DataConfig.register(StreamsConfig)


class Streams(Dataset):
    """Random images in memory whose mean depends on the class."""

    classes = tuple("abcdef")

    def __init__(self, config: StreamsConfig) -> None:
        generator = np.random.default_rng(0)
        self.ids = [str(row) for row in range(config.rows)]
        self.labels = np.arange(config.rows) % len(self.classes)
        shape = (3, config.size, config.size)
        self.modalities = {m: Modality(kind="image", shape=shape, mean=(0.0,), std=(1.0,)) for m in config.modalities}
        shift = self.labels[:, None, None, None] / len(self.classes)
        self._values = {
            m: (generator.standard_normal((config.rows, *shape)) + shift).astype(np.float32) for m in config.modalities
        }

    def read(self, modality: str, rows: Any, /) -> Any:
        return self._values[modality][rows]


def workload(name: str, arguments: argparse.Namespace) -> RunConfig:
    if name == "handwritten":
        config = recipe("handwritten")
    elif name == "av-digits":
        config = recipe("av-digits")
        config = replace(config, data=replace(config.data, root=arguments.av_digits))
    else:
        config = RunConfig(
            recipe=name,
            feature_dim=512,
            batch_size=64,
            data=StreamsConfig(rows=arguments.rows),
            encoders={m: ResNetConfig() for m in ("left", "right")},
            method=CPSCConfig(warmup=1),
            optimizer=OptimizerConfig(kind="sgd", lr=1e-2),
            conformal=ConformalConfig(),
            compute=ComputeConfig(threads=2),
        )
    table = config.to_plain()
    table["compute"]["device"] = arguments.device
    return apply_settings(RunConfig.from_plain(table), arguments.set)


def trainer(base: RunConfig, variant: str) -> Trainer:
    """Return a trainer after its first calibrated epoch."""
    config = apply_settings(base, VARIANTS[variant])
    made = Trainer(Setup.build(config))
    made.epoch = max(0, made.objective.method.warmup - 1)
    for _ in range(2):
        made.train_epoch(Observer())
    return made


def epoch(made: Trainer) -> float:
    began = time.perf_counter()
    made.train_epoch(Observer())
    return time.perf_counter() - began


@contextmanager
def timed(made: Trainer) -> Iterator[dict[str, float]]:
    """Time the parts of a step; on a GPU each part is synchronised, which slows the step."""
    times = dict.fromkeys(PARTS, 0.0)
    undo: list[Callable[[], None]] = []

    def wrap(owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            out = original(*args, **kwargs)
            if made.setup.device.type == "cuda":
                torch.cuda.synchronize()
            times[part] += time.perf_counter() - began
            return out

        setattr(owner, name, call)
        own = name in vars(owner)
        undo.append(lambda: setattr(owner, name, original) if own else delattr(owner, name))

    wrap(made.objective.model, "encode", "forward")
    wrap(made.objective.model, "classify", "forward")
    wrap(torch.autograd, "backward", "backward")
    wrap(made.stepper.optimizer, "step", "step")
    wrap(made.refresh, "after_step", "refresh")
    if getattr(made.objective.method, "rsc", None) is not None:
        wrap(made.objective.method.rsc, "forward", "RSC")
        for name in ("collaborative_reliability", "gsc_weights", "weighted_cross_entropy"):
            wrap(cpsc_module, name, "GSC")
    try:
        yield times
    finally:
        for back in reversed(undo):
            back()


def split(made: Trainer) -> dict[str, float]:
    """Return seconds per epoch by part; computations of a refresh count as refresh only."""
    inside = dict.fromkeys(PARTS, 0.0)
    with timed(made) as times:
        original = made.refresh.after_step

        def apart() -> None:
            before = dict(times)
            original()
            for part in ("forward", "RSC"):
                inside[part] += times[part] - before[part]

        made.refresh.after_step = apart
        try:
            record = made.train_epoch(Observer())
        finally:
            del made.refresh.after_step
    found = {part: times[part] - inside[part] for part in PARTS}
    return found | {"data": record["time"]["data"]}


def memory(name: str, variant: str, arguments: argparse.Namespace) -> float:
    """Return the peak memory of a process of its own, in MiB."""
    more = [part for one in arguments.set for part in ("--set", one)]
    if arguments.av_digits:
        more += ["--av-digits", arguments.av_digits]
    command = [
        sys.executable,
        __file__,
        "--peak",
        name,
        variant,
        "--device",
        arguments.device,
        "--rows",
        arguments.rows,
    ]
    done = subprocess.run([*map(str, command), *more], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["peak"])


def peak(base: RunConfig, variant: str) -> None:
    with base.compute.applied():
        trainer(base, variant)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if base.compute.open_device().type == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"peak": used}))


def measure(name: str, arguments: argparse.Namespace) -> None:
    base = workload(name, arguments)
    with base.compute.applied():
        made = {variant: trainer(base, variant) for variant in arguments.variants}
        found: dict[str, list[float]] = {variant: [] for variant in made}
        for _ in range(arguments.rounds):
            for variant, one in made.items():
                found[variant].append(epoch(one))
        parts = {variant: split(one) for variant, one in made.items()}
    setup = made["joint"].setup
    sizes = f"|D_train| {len(setup.splits.train)}, |D_cal| {len(setup.splits.calibration)}, B {base.batch_size}"
    print(f"\n{name}: {sizes}, {base.compute.threads or torch.get_num_threads()} threads")
    print(f"| | epoch, s | × joint | spread | {' | '.join(PARTS)} | peak, MiB |\n" + "|---" * (len(PARTS) + 5) + "|")
    floor = statistics.median(found["joint"])
    for variant, seconds in found.items():
        ratios = [one / joint for one, joint in zip(seconds, found["joint"], strict=True)]
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        cells = " | ".join(f"{parts[variant][part]:.3f}" for part in PARTS)
        used = memory(name, variant, arguments)
        middle = statistics.median(seconds)
        print(f"| {variant} | {middle:.3f} | {middle / floor:.2f} | {spread} | {cells} | {used:.0f} |", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default=None, help="comma-separated: handwritten, av-digits, resnet18")
    parser.add_argument("--av-digits", default=None, metavar="DIR", help="where the av-digits data lie")
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="joint among them"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=640, help="rows of the two ResNet18 streams")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any value of the configuration"
    )
    parser.add_argument("--peak", nargs=2, metavar=("WORKLOAD", "VARIANT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if "joint" not in given.variants:
        parser.error("--variants: ratios are to joint, which is missing")
    if given.peak:
        peak(workload(given.peak[0], given), given.peak[1])
        return
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, device {given.device}")
    names = given.workloads.split(",") if given.workloads else ["handwritten", "resnet18"]
    if given.workloads is None and given.av_digits:
        names.insert(1, "av-digits")
    for name in names:
        measure(name, given)


if __name__ == "__main__":
    main()
