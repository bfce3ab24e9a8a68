"""Features of frozen encoders, clean and under noise, in one ``.npz`` file that the data set ``arrays`` reads."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.config import unknown
from cpsc_train.data import Dataset, InOrder, Loader, Noise, conditions
from cpsc_train.data.adapters.arrays import WIDTHS
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import UserError
from cpsc_train.methods.joint import JointConfig
from cpsc_train.models.inputs import split_spectrogram
from cpsc_train.models.pretrained import BackboneEncoder
from cpsc_train.training import RunConfig
from cpsc_train.training.objective import evaluating
from cpsc_train.training.setup import Setup
from cpsc_train.writing import check_writable, replacing

Arrays = dict[str, NDArray[Any]]
Rows = NDArray[np.int64]
FORMAT = 1
"""Format of the comment of a file."""


@dataclass(frozen=True)
class Extracted:
    """Outcome of an extraction: names of the arrays that were written, and of those that were complete before."""

    written: list[str]
    complete: list[str]
    rows: int


def extract_features(
    config: RunConfig,
    out: Path,
    *,
    noise: Sequence[str] = (),
    parts: Sequence[str] = (),
    depths: Sequence[str] = (),
    advance: Callable[[int, int], None] = lambda _done, _of: None,
) -> Extracted:
    """Write the pooled features of the encoders of a configuration, before any training.

    The file holds ``id``, ``label`` (class names), ``split`` and ``group`` if known, an array (N, width) of each
    modality in float16, and ``MODALITY@KIND-SEVERITY`` of each noise. It is replaced after each array, and rows that it
    already holds are not computed again, so an interrupted extraction resumes, and another call adds to the file.
    Raises UserError if an encoder has no pooled features, the file holds features of another configuration, or a part,
    a noise or a depth does not fit.

    - `config`: data and encoders.
    - `out`: the file.
    - `noise`: conditions on one modality each, such as ``image:blur@1-5`` or ``text:words:0.5``.
    - `parts`: official parts whose rows are extracted under noise; the others are NaN. If empty, all. Clean features
      are always of all rows.
    - `depths`: submodules of an encoder whose pooled activations come before the pooled features, in one vector, as
      ``MODALITY:NAME,NAME``; or the number of depths of every encoder, at the default spread of `cpsc_rsc.Taps`. The
      file then also holds their widths (K,), as ``widths/MODALITY``.
    - `advance`: called with the number of rows extracted, and the number of rows to extract.
    """
    check_writable(out)
    setup = Setup.build(replace(config, noise=(), protocols=(), augment=(), method=JointConfig()))
    dataset, named = setup.dataset, named_depths(depths, setup.dataset.modalities)
    encoders = {name: Deep(name, setup.objective.model.encoders[name], named[name]) for name in dataset.modalities}
    key = _key(config, dataset, {name: deep.names for name, deep in encoders.items() if deep.names})
    jobs = _jobs(dataset, noise, parts)
    arrays = _begun(out, key) or _described(dataset)
    missing = {name: _missing(arrays.get(name), rows) for name, (_, _, rows) in jobs.items()}
    done, of = 0, sum(map(len, missing.values()))
    with config.compute.applied():
        for name, (modality, one, _) in jobs.items():
            for rows, values in _features(setup, encoders[modality], modality, one, missing[name]):
                _store(arrays, name, len(dataset), rows, values)
                if encoders[modality].names:
                    arrays[WIDTHS + modality] = np.array(encoders[modality].widths)
                done += len(rows)
                advance(done, of)
            if len(missing[name]):
                _write(out, arrays, key)
    complete = [name for name in jobs if not len(missing[name])]
    return Extracted([name for name in jobs if name not in complete], complete, len(dataset))


def _jobs(dataset: Dataset, noise: Sequence[str], parts: Sequence[str]) -> dict[str, tuple[str, Noise | None, Rows]]:
    """Return modality, noise and rows of each array by its name, clean ones first."""
    rows = _rows(dataset, parts)
    jobs: dict[str, tuple[str, Noise | None, Rows]] = {}
    for name in dataset.modalities:
        jobs[name] = (name, None, _having(dataset, name, np.arange(len(dataset))))
    for text in noise:
        for condition in conditions(text, dataset.modalities):
            if len(condition.parts) != 1 or condition.parts[0].share < 1:
                raise UserError(f"--noise must corrupt all samples of one modality, got {text!r}")
            (one,) = condition.parts
            name = f"{one.modality}@{one.kind}-{one.severity:g}"
            jobs[name] = (one.modality, one, _having(dataset, one.modality, rows))
    return jobs


def _rows(dataset: Dataset, parts: Sequence[str]) -> Rows:
    if not parts:
        return np.arange(len(dataset))
    official = dataset.parts or {}
    for part in parts:
        if part not in official:
            known = ", ".join(official) or "none"
            raise UserError(f"--parts must be official parts of the data set ({known}), got {part!r}")
    return np.sort(np.concatenate([official[part] for part in parts]))


def _having(dataset: Dataset, modality: str, rows: Rows) -> Rows:
    """Return those of the rows that have the modality."""
    mask = dataset.presence.get(modality)
    return rows if mask is None else rows[mask[rows]]


def _missing(array: NDArray[Any] | None, rows: Rows) -> Rows:
    return rows if array is None else rows[np.isnan(array[rows]).any(1)]


def _described(dataset: Dataset) -> Arrays:
    """Return the arrays besides the features."""
    arrays: Arrays = {
        "id": np.array(list(dataset.ids)),
        "label": np.array(list(dataset.classes))[dataset.labels],
    }
    if dataset.parts is not None:
        split = np.full(len(dataset), "train", dtype="U16")
        for part, rows in dataset.parts.items():
            split[rows] = part
        arrays["split"] = split
    if dataset.groups is not None:
        arrays["group"] = np.array(list(dataset.groups))
    return arrays


def _features(setup: Setup, encoder: Deep, modality: str, noise: Noise | None, rows: Rows) -> Any:
    """Yield rows and their features, batch by batch."""
    config, single = setup.config, copy.copy(setup.dataset)
    single.modalities = {modality: setup.dataset.modalities[modality]}
    single.presence = {}
    loader = Loader(
        single,
        rows,
        setup.preprocessing,
        InOrder(len(rows), config.batch_size),
        noise=() if noise is None else (noise,),
        workers=config.compute.worker_count(decoding=True),
    )
    for batch in loader if len(rows) else ():
        with evaluating(setup.objective), config.compute.autocast(setup.device):
            values = encoder(batch.inputs[modality].to(setup.device)).float().cpu().numpy()
        yield rows[batch.rows.numpy()], values


def _store(arrays: Arrays, name: str, count: int, rows: Rows, values: NDArray[Any]) -> None:
    half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"{name}: a feature is not finite, or larger than float16 can hold")
    if name not in arrays:
        arrays[name] = np.full((count, values.shape[1]), np.nan, np.float16)
    arrays[name][rows] = half


def _key(config: RunConfig, dataset: Dataset, depths: Mapping[str, Sequence[str]]) -> str:
    """Return a hash of what features depend on: data but not where they are, encoders, depths, seed, and samples."""
    plain = config.to_plain()
    data = {name: value for name, value in plain["data"].items() if name not in {"root", "cache", "skip"}}
    encoders = {
        name: {key: value for key, value in options.items() if key not in {"train", "dropout"}}
        for name, options in plain["encoders"].items()
    }
    content = json.dumps([FORMAT, data, encoders, plain["seed"], list(dataset.ids), *([depths] if depths else [])])
    return hashlib.sha256(content.encode()).hexdigest()


def _begun(out: Path, key: str) -> Arrays | None:
    """Return the arrays of an existing file; None if there is no file."""
    if not out.exists():
        return None
    arrays = read_npz(out)
    with zipfile.ZipFile(out) as archive:
        found = archive.comment
    if found != key.encode():
        raise UserError(f"{out}: holds other arrays, or features of another configuration: choose another --out")
    return {name: array.copy() for name, array in arrays.items()}


def _write(out: Path, arrays: Arrays, key: str) -> None:
    with replacing(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            npy.write_array(member, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getbuffer())
        archive.comment = key.encode()


class Deep:
    """Map samples (B, ...) to vectors (B, d_1 + … + d_K): pooled activations at K − 1 submodules, and pooled features.

    Raises UserError if the encoder has no pooled features, or no submodule has the name.

    - `name`: the modality, for error messages.
    - `encoder`: its encoder, with a `BackboneEncoder` as the last module; a spectrogram may come before that.
    - `depths`: names of submodules of the `BackboneEncoder`, or K, the number of depths of the default spread of
      `cpsc_rsc.Taps`, which also pools them.
    """

    def __init__(self, name: str, encoder: nn.Module, depths: Sequence[str] | int = 1) -> None:
        self._spectrogram, last = split_spectrogram(encoder)
        if not isinstance(last, BackboneEncoder):
            raise UserError(
                f"encoders.{name}: has no pooled features to extract: use efficientnet-lite0, transformer or resnet"
            )
        try:
            taps = Taps(last, count=depths) if isinstance(depths, int) else Taps(last, (*depths, ""))
        except ValueError as error:
            raise UserError(f"--depths {name}: {error}") from None
        self.names = taps.names[:-1]
        """Names of the K − 1 submodules."""
        self.widths: tuple[int, ...] = ()
        """(d_1, …, d_K); empty before the first call."""
        self._features = _Pooled(last)
        self._taps = Taps(self._features, [*(f"encoder.{depth}" for depth in self.names), ""])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the vectors in single precision."""
        _, depths = self._taps(self._features, x if self._spectrogram is None else self._spectrogram(x))
        self.widths = tuple(depth.shape[1] for depth in depths)
        return torch.cat(depths, 1).float()


class _Pooled(nn.Module):
    """An encoder without its projection."""

    def __init__(self, encoder: BackboneEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.token_mask = getattr(encoder, "token_mask", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.pooled(x)


def named_depths(texts: Iterable[str], modalities: Iterable[str]) -> Mapping[str, tuple[str, ...] | int]:
    """Return the depths of each modality, given a number for all modalities, and ``MODALITY:NAME,NAME``.

    Raises UserError for another form, or an unknown modality.

    Examples
    --------
    >>> named_depths(["3", "rgb:backbone._blocks.2,backbone._blocks.7"], ["rgb", "depth"])
    {'rgb': ('backbone._blocks.2', 'backbone._blocks.7'), 'depth': 3}
    """
    known = list(modalities)
    found: dict[str, tuple[str, ...] | int] = dict.fromkeys(known, 1)
    for text in sorted(texts, key=lambda text: not text.isdecimal()):  # names replace the number
        modality, _, names = text.partition(":")
        if text.isdecimal() and int(text):
            found = dict.fromkeys(known, int(text))
        elif not all(names.split(",")):
            raise UserError(f"--depths must be a number, or names such as rgb:backbone._blocks.2, got {text!r}")
        elif modality not in known:
            raise UserError("--depths: " + unknown("modality", modality, known))
        else:
            found[modality] = tuple(names.split(","))
    return found
