"""Data of the study of reliability: rows of which some are wrong for one modality, and which these are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_train.config import apply_settings
from cpsc_train.data import SplitConfig, Splits
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.recipes import recipe

Floats = NDArray[np.float32]
FRACTION = {"mismatched": 0.2, "noisy": 0.3}
"""Fraction of the rows of a handwritten bench that are affected, test rows excepted."""
SIGMA = 2.0


@dataclass(frozen=True)
class Bench:
    """Rows of one division, standardised by the training rows."""

    inputs: dict[str, dict[str, Tensor]]
    """By part and modality, (n, d); ``test`` is clean."""
    noisy: dict[str, dict[str, Tensor]]
    """By condition, the test rows."""
    labels: dict[str, Tensor]
    """By part, (n,)."""
    right: dict[str, NDArray[np.bool_]]
    """By modality, (n,): whether the label is right for that modality of a training row, and its input is intact."""
    classes: int
    hidden: int
    epochs: int
    batch_size: int
    overlap: float
    """Number of test rows over that of all other rows, or 0 if all divisions share the test rows."""


@cache
def _handwritten() -> tuple[dict[str, Floats], NDArray[np.int64]]:
    dataset = recipe("handwritten", modalities=("fou", "zer")).data.open()
    rows = np.arange(len(dataset))
    return {m: dataset.read(m, rows).reshape(len(rows), -1) for m in dataset.modalities}, dataset.labels


def handwritten(kind: str, seed: int) -> Bench:
    """Return ``fou`` and ``zer`` in the division of a seed.

    ``clean``; ``mismatched``: ``fou`` of some rows is that of a row of another class; ``noisy``: Gaussian noise on it.
    """
    views, labels = _handwritten()
    views = {m: x.copy() for m, x in views.items()}
    splits = Splits.draw(labels, SplitConfig(seed=seed))
    generator = np.random.default_rng(seed)
    right = np.ones(len(labels), dtype=bool)
    fit = np.setdiff1d(np.arange(len(labels)), splits.test)
    if kind != "clean":
        hit = generator.permutation(fit)[: round(FRACTION[kind] * len(fit))]
        right[hit] = False
    if kind == "mismatched":
        source = views["fou"].copy()
        for row in hit:
            views["fou"][row] = source[generator.choice(fit[labels[fit] != labels[row]])]
    if kind == "noisy":
        scale = views["fou"][splits.train].std(0)
        views["fou"][hit] += SIGMA * scale * generator.normal(size=views["fou"][hit].shape)
    parts = {name: getattr(splits, name) for name in ("train", "calibration", "validation", "test")}
    scales = {m: (x[splits.train].mean(0), x[splits.train].std(0) + 1e-6) for m, x in views.items()}
    inputs = {p: {m: _scaled(x[rows], *scales[m]) for m, x in views.items()} for p, rows in parts.items()}
    clean, drawn = inputs["test"], torch.Generator().manual_seed(seed)
    noise = {m: torch.randn(x.shape, generator=drawn) for m, x in clean.items()}
    noisy = {
        f"{'+'.join(hit)} σ {sigma:g}": {m: x + sigma * noise[m] * (m in hit) for m, x in clean.items()}
        for hit in (("fou",), ("zer",), ("fou", "zer"))
        for sigma in (0.5, 1.0, 2.0)
    }
    return Bench(
        inputs,
        noisy,
        {name: torch.from_numpy(labels[rows]) for name, rows in parts.items()},
        {"fou": right[splits.train], "zer": np.ones(len(splits.train), dtype=bool)},
        classes=10,
        hidden=64,
        epochs=20,
        batch_size=128,
        overlap=len(splits.test) / (len(labels) - len(splits.test)),
    )


@cache
def _merged(root: str, features: str) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.int64]]]:
    """Return the arrays of the file of features, and the labels by modality in its order."""
    arrays = dict(read_npz(Path(features)))
    config = apply_settings(recipe("mvsa-single-small"), [f"data.root={root}", "data.labels=merge"])
    dataset = config.data.open()
    if list(arrays["id"]) != list(dataset.ids):
        raise SystemExit(f"{features}: must hold the rows of {root} with data.labels=merge")
    return arrays, dict(dataset.labels_by_modality)


def mvsa_merge(root: str, features: str, seed: int) -> Bench:
    """Return the merge protocol of MVSA-Single: the training rows whose two labels differ have a wrong one."""
    arrays, both = _merged(root, features)
    classes, labels = np.unique(arrays["label"], return_inverse=True)
    rows = {part: np.flatnonzero(arrays["split"] == part) for part in ("train", "validation", "test")}
    order = np.random.default_rng(seed).permutation(rows["train"])
    rows["calibration"], rows["train"] = np.sort(order[: len(order) // 10]), np.sort(order[len(order) // 10 :])
    modalities = ("text", "image")
    clean = {m: arrays[m].astype(np.float32) for m in modalities}
    scales = {m: (x[rows["train"]].mean(0), x[rows["train"]].std(0) + 1e-6) for m, x in clean.items()}
    inputs = {part: {m: _scaled(x[of], *scales[m]) for m, x in clean.items()} for part, of in rows.items()}
    noisy = {}
    for name in sorted(arrays):
        m, at, _ = name.partition("@")
        if at:
            noisy[name] = inputs["test"] | {m: _scaled(arrays[name][rows["test"]].astype(np.float32), *scales[m])}
    right = {m: (both[m] == labels)[rows["train"]] | (both[m] < 0)[rows["train"]] for m in modalities}
    targets = {part: torch.from_numpy(labels[of].astype(np.int64)) for part, of in rows.items()}
    return Bench(inputs, noisy, targets, right, classes=len(classes), hidden=32, epochs=8, batch_size=128, overlap=0.0)


def _scaled(values: Floats, mean: Floats, deviation: Floats) -> Tensor:
    return torch.from_numpy(((values - mean) / deviation).astype(np.float32))
