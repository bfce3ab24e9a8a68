"""Small real runs that check the arithmetic: gloo processes on this machine, and the data structures of many rows."""

from __future__ import annotations

import json
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import arithmetic
import numpy as np
import torch
from fits import Compared, Growth
from torch import distributed, multiprocessing
from torch.profiler import ProfilerActivity, profile
from traffic import counted
from workload import SMALL, Sharding, Workload, thresholds

from cpsc_train.data import Splits
from cpsc_train.methods import PartFeatures
from cpsc_train.training.calibration_share import Held
from cpsc_train.training.distributed import current
from cpsc_train.training.objective import Predictor
from cpsc_train.training.refresh import Refresh
from cpsc_train.training.step import Stepper

SETTLED = 3
"""Steps after which DDP has ordered its buckets."""


def job(world: int, sharding: Sharding, calibration: Sequence[int]) -> dict[str, Any]:
    """Return what the first of `world` gloo processes counts: a step, and full refreshes of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_process, (world, sharding, tuple(calibration), folder), nprocs=world)
        counts: dict[str, Any] = json.loads(Path(folder, "counts").read_text())
    return counts


def _process(rank: int, world: int, sharding: Sharding, calibration: Sequence[int], folder: str) -> None:
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # the features are not changed in place
    torch.set_num_threads(1)
    torch.manual_seed(0)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    config = SMALL.config(world, sharding)
    stepper = Stepper(SMALL.setup(config, SMALL.objective(config)))
    stepper.objective.train()
    batch, qhat = SMALL.generated(SMALL.batch), thresholds()

    def step() -> None:
        stepper.step([batch], [1.0], [config.batch_size], qhat)

    for _ in range(SETTLED):
        step()
    traffic = counted(step)
    refreshes, seconds = [], []
    for rows in calibration:
        process = current()
        mine = SMALL.generated(len(process.own(0, rows)))
        samples = Held(mine, process=process, total=rows, most=4 * SMALL.batch)
        score = stepper.objective.calibration_logits
        refresh = Refresh(samples, config.conformal, batch_size=config.batch_size, score=score)
        began = time.perf_counter()
        refreshes.append(counted(refresh.start_epoch).bytes["all-gather"])
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        counts = {"step": dict(traffic.bytes), "refresh": refreshes, "seconds": seconds}
        Path(folder, "counts").write_text(json.dumps(counts))
    distributed.destroy_process_group()


def traffic_checks(worlds: Sequence[int], calibration: Sequence[int]) -> tuple[list[Compared], list[Growth]]:
    """Compare the bytes of collectives of several processes with the arithmetic."""
    compared, growths = [], []
    for world in worlds:
        for sharding in ("off", "encoders"):
            counts = job(world, sharding, calibration if sharding == "off" else ())
            name = "DDP" if sharding == "off" else "FSDP2"
            for kind, size in arithmetic.step_traffic(SMALL, sharding).items():
                found = counts["step"].get(kind, 0)
                compared.append(Compared(f"{kind} of a step, {name}, W = {world}, bytes", size, found, 0.01))
            if sharding == "off":
                growths.append(Growth(f"refresh, W = {world}, bytes sent", calibration, counts["refresh"], 1, 0.02))
                growths.append(Growth(f"refresh, W = {world}, seconds", calibration, counts["seconds"], 1, 0.4))
    return compared, growths


def _growth(
    name: str, sizes: Sequence[int], measure: Callable[[int], float], *, exponent: float = 1, tolerance: float = 0.1
) -> Growth:
    return Growth(name, sizes, [measure(size) for size in sizes], exponent, tolerance)


def allocated(work: Callable[[], object]) -> float:
    """Return the peak bytes that torch allocates on the CPU during a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = work()
    del kept
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return float(np.cumsum(sizes).max())


def saved_bytes(workload: Workload) -> int:
    """Return the bytes of the activations that the encoders keep for the backward pass of a batch."""
    model = workload.objective(workload.config(1, "off")).model
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = workload.generated(workload.batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.encode(rows.inputs)
    for tensor in (*model.parameters(), *model.buffers(), *rows.inputs.values()):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    del features
    return sum(sizes.values())


def table_bytes(rows: int) -> float:
    """Return the memory of ids, labels and splits of a data set of some rows."""
    config = replace(SMALL, rows=rows).config(1, "off")
    tracemalloc.start()
    dataset = config.data.open()
    splits = Splits.of(dataset, config.splits)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del dataset, splits
    return float(used)


def evaluation_bytes(rows: int, classes: int) -> float:
    """Return the peak memory of arrays in the evaluation of encoded rows."""
    workload = replace(SMALL, classes=classes)
    config = workload.config(1, "off")
    predictor = Predictor(config, workload.objective(config), None, tuple(workload.modalities))
    draw = np.random.default_rng(0)
    features = {m: draw.standard_normal((rows, workload.dim)).astype(np.float32) for m in workload.modalities}
    part = PartFeatures(features, draw.integers(0, classes, rows), {}, {})
    return allocated(lambda: predictor.predict(part))


def memory_checks() -> list[Compared]:
    """Compare what a process knows of many rows, and the activations of several encoders, with the arithmetic."""
    table = Workload(rows=300_000)
    known = sum(size for kind, size in arithmetic.table_memory(table).items() if kind != "order")
    rows = Compared(f"ids, labels and splits of {table.rows:,} rows, bytes", known, table_bytes(table.rows), 0.05)
    shapes = [SMALL, replace(SMALL, depth=50, side=64), replace(SMALL, tokens=64, layers=4)]
    return [rows] + [
        Compared(
            f"activations, ResNet-{one.depth} at {one.side} pixels, {one.layers} layers of {one.tokens} tokens",
            one.batch * arithmetic.activations(one),
            saved_bytes(one),
            0.1,
        )
        for one in shapes
    ]


def memory_growths() -> list[Growth]:
    """Fit how memory grows with rows, classes and the batch."""
    return [
        _growth("activations by row of a batch, bytes", (2, 4, 8, 16), lambda n: saved_bytes(replace(SMALL, batch=n))),
        _growth("ids, labels and splits, bytes", (10_000, 30_000, 100_000, 300_000), table_bytes),
        _growth("evaluation by class, bytes", (100, 300, 1_000, 3_000), lambda c: evaluation_bytes(500, c)),
        _growth("evaluation by row, bytes", (250, 500, 1_000, 2_000), lambda n: evaluation_bytes(n, 500)),
    ]
