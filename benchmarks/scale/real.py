"""Small real runs that check the arithmetic: gloo processes on this machine, and the data structures of many rows."""

from __future__ import annotations

import json
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import arithmetic
import numpy as np
import torch
from fits import Compared, Growth
from torch import distributed, multiprocessing
from traffic import counting
from workload import MODALITIES, SMALL, Sharding, Workload, thresholds

from cpsc_train.data import Splits
from cpsc_train.evaluation.probabilities import Softmax
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
    with counting() as traffic:
        step()
    refreshes, seconds = [], []
    for rows in calibration:
        process = current()
        mine = SMALL.generated(len(process.own(0, rows)))
        samples = Held(mine, process=process, total=rows, most=4 * SMALL.batch)
        score = stepper.objective.calibration_logits
        refresh = Refresh(samples, config.conformal, batch_size=config.batch_size, score=score)
        began = time.process_time()
        with counting() as gathered:
            refresh.start_epoch()
        seconds.append(time.process_time() - began)
        refreshes.append(gathered.bytes["all-gather"])
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
                growths.append(Growth(f"refresh, W = {world}, bytes gathered", calibration, counts["refresh"], 1, 0.02))
            if sharding == "off" and world == worlds[0]:  # more processes have fewer rows each, and fixed costs
                growths.append(Growth(f"refresh, W = {world}, CPU seconds", calibration, counts["seconds"], 1, 0.3))
    return compared, growths


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


def opened(rows: int) -> tuple[float, float]:
    """Return the bytes of ids, labels and splits of a data set of some rows, and the CPU seconds to make them."""
    config = replace(SMALL, rows=rows).config(1, "off")
    tracemalloc.start()
    began = time.process_time()
    dataset = config.data.open()
    splits = Splits.of(dataset, config.splits)
    seconds = time.process_time() - began
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del dataset, splits
    return float(used), seconds


def evaluation_bytes(workload: Workload) -> int:
    """Return the bytes of features and logits that one process keeps of all rows of a part that is evaluated."""
    config = workload.config(1, "off")
    predictor = Predictor(config, workload.objective(config), None, MODALITIES)
    shape = (workload.evaluated, workload.dim)
    features = {m: np.random.default_rng(0).standard_normal(shape, np.float32) for m in MODALITIES}
    labels = np.arange(workload.evaluated) % workload.classes
    predictions = predictor.predict(PartFeatures(features, labels, {}, {}))
    logits = [p.logits for p in predictions.probabilities.values() if isinstance(p, Softmax)]
    return sum(array.nbytes for array in (*predictions.features.values(), *logits))


def memory_checks() -> list[Compared]:
    """Compare what a process keeps of many rows, and the activations of several encoders, with the arithmetic."""
    table = Workload(rows=300_000, classes=10)
    opened(1_000)  # modules that the first call imports are no memory of the rows
    known = sum(size for kind, size in arithmetic.table_memory(table).items() if kind != "order")
    part = replace(SMALL, evaluated=1_000, classes=1_000)
    kept = arithmetic.evaluation_memory(part, 1)
    checks = [
        Compared(f"ids, labels and splits of {table.rows:,} rows, bytes", known, opened(table.rows)[0], 0.05),
        Compared(
            "features and logits of 1,000 rows of 1,000 classes", sum(kept.values()), evaluation_bytes(part), 0.01
        ),
    ]
    for one in (SMALL, replace(SMALL, depth=50, side=64), replace(SMALL, tokens=64, layers=4)):
        name = f"ResNet-{one.depth} at {one.side} pixels, {one.layers} layers of {one.tokens} tokens"
        predicted = one.batch * arithmetic.activations(one)
        checks.append(Compared(f"activations, {name}", predicted, saved_bytes(one), 0.1))
    return checks


def memory_growths() -> list[Growth]:
    """Fit how memory grows with rows and with the batch."""
    batches, rows = (2, 4, 8, 16), (30_000, 100_000, 300_000, 1_000_000)
    saved = [saved_bytes(replace(SMALL, batch=batch)) for batch in batches]
    used, seconds = zip(*map(opened, rows), strict=True)
    return [
        Growth("activations by rows of a batch, bytes", batches, saved, 1, 0.1),
        Growth("ids, labels and splits by rows, bytes", rows, used, 1, 0.1),
        Growth("ids, labels and splits by rows, CPU seconds", rows, seconds, 1, 0.2),
    ]
