"""From what a data set is distributed as to what trains faster, or from farther away."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cpsc_train.data import cache
from cpsc_train.data.dataset import DataConfig, Dataset, Kept
from cpsc_train.data.media.audio import read_sound
from cpsc_train.data.media.clips import RATE, ClipConfig, Clips
from cpsc_train.data.media.stored import Stored
from cpsc_train.data.media.video import every
from cpsc_train.data.parallel import each
from cpsc_train.data.shards import Packing
from cpsc_train.data.splits import SplitConfig, Splits, by_group, rows_by_part
from cpsc_train.errors import UserError, reason

Advance = Callable[[int, int], object]
By = Literal["official", "speaker", "stratified"]
TRIED = 8
"""Samples whose size tells that of all."""
QUALITY = 95
"""Of the JPEG files that frames become."""


def nothing(_done: int, _of: int) -> None:
    """Say nothing of the progress."""


def fill_cache(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Decode everything into memory-mapped files; goes on where it was stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set is not read from files, the disk is too small, or another cache is there.
    """
    dataset = config.open()
    whole = _whole(dataset)
    if not isinstance(whole, Stored):
        raise UserError(f"{config.name}: its samples are in memory already: there is nothing to cache")
    kept = frozenset(dataset.ids)
    _refuse_small(out, _estimate(whole, [row for row, sample in enumerate(whole.ids) if sample in kept]))
    cache.begin(out, whole)
    names = [f"one of {len(rows)} samples from {whole.ids[rows[0]]} on" for rows in cache.chunks(len(whole))]
    return _sum(_Chunk(out, whole, kept), names, workers, advance)


def pack(config: DataConfig, out: str, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Pack all files of a data set into tar files and an index; goes on where it was stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `Packing.of`; or if the disk is too small, or what is there cannot be written.
    """
    packing = Packing.of(config, out)
    if "://" not in out:
        sizes = [_size(packing.dataset, row) for row in _some(len(packing.dataset))]
        _refuse_small(Path(out), round(float(np.mean(sizes)) * len(packing.dataset)))
    written = _sum(packing.write, [f"tar file {number}" for number in range(packing.count)], workers, advance)
    packing.finish()
    return written


def extract(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = nothing) -> int:
    """Take sound and frames out of videos, in the layout of derived copies; goes on where it was stopped.

    Sound becomes WAV of 16 bits, mono, 22,050 Hz; frames become JPEG. Lists are copied. Return how many recordings.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set has no recordings, or the folder cannot be written.
    """
    from cpsc_train.data.media.files import noted  # noqa: PLC0415

    with noted() as lists:
        dataset = config.open()
    whole = _whole(dataset)
    if not isinstance(whole, Clips) or not isinstance(config, ClipConfig):
        raise UserError(f"{config.name}: only recordings with sound and frames can be taken apart")
    _refuse_small(out, 40_000 * len(dataset))
    kept = frozenset(dataset.ids)
    rows = tuple(row for row, sample in enumerate(whole.ids) if sample in kept)
    names = [whole.ids[row] for row in rows]
    done = _sum(_Extraction(out, whole, rows, *config.DERIVED), names, workers, advance)
    for place in lists:
        (out / place.name).write_bytes(place.read_bytes())
    return done


def write_splits(config: DataConfig, splits: SplitConfig, out: Path, by: By) -> Splits:
    """Divide a data set and write the ids of each part, in the form that ``splits.file`` takes.

    Parameters
    ----------
    config, splits
        What is divided, and the shares.
    out
        The file.
    by
        ``official``: as the data set says, as far as it says it; ``speaker``: no speaker in two of training, validation
        and test; ``stratified``: each class in the same proportion everywhere.

    Raises
    ------
    UserError
        If the data set does not say who a sample is of, or has no division; or the file cannot be written.
    """
    dataset = config.open()
    parts = dataset.parts
    if by == "official" and parts is None:
        raise UserError(f"{config.name}: has no division of its own here: take --by stratified")
    if by == "speaker":
        if dataset.groups is None:
            raise UserError(f"{config.name}: does not say who a sample is of: take --by stratified")
        parts = rows_by_part(by_group(list(dataset.groups), splits.seed))
    found = Splits.draw(dataset.labels, replace(splits, official=by != "stratified", file=None), parts)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found.save(out, dataset)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({reason(error)})") from None
    return found


@dataclass(frozen=True)
class _Chunk:
    out: Path
    dataset: Stored
    kept: frozenset[str]

    def __call__(self, number: int) -> int:
        try:
            return cache.write_chunk(self.out, self.dataset, number, self.kept)
        except OSError as error:
            raise UserError(f"{self.out}: cannot be written ({reason(error)})") from None


@dataclass(frozen=True)
class _Extraction:
    """Writes sound and frames of one recording, the folder of the frames last."""

    out: Path
    dataset: Clips
    rows: tuple[int, ...]
    sound: str
    frames: str

    def __call__(self, number: int) -> int:
        row = self.rows[number]
        name = self.dataset.ids[row]
        sound, frames = self.out / self.sound / f"{name}.wav", self.out / self.frames / name
        clip = self.dataset.clip(row)
        try:
            if "audio" in self.dataset.modalities and not sound.is_file():
                _write_sound(sound, *read_sound(clip.sound))
            if "video" in self.dataset.modalities and not frames.is_dir():
                partial = frames.with_name(f"{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                for k, image in enumerate(clip.frames.at(every)):
                    image.save(partial / f"{k:05d}.jpg", quality=QUALITY)
                partial.replace(frames)
        except OSError as error:
            raise UserError(f"{self.out}: cannot be written ({reason(error)})") from None
        return 1


def _write_sound(path: Path, samples: Any, rate: int) -> None:
    import soundfile  # noqa: PLC0415  # an extra

    from cpsc_train.data.media.audio import resample  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    held = io.BytesIO()
    soundfile.write(held, np.clip(resample(samples, rate, RATE), -1, 1), RATE, subtype="PCM_16", format="WAV")
    partial = path.with_suffix(".partial")
    partial.write_bytes(held.getvalue())
    partial.replace(path)


def _sum(work: Callable[[int], int], names: Sequence[str], workers: int, advance: Advance) -> int:
    total = 0
    for done, (_, amount) in enumerate(each(work, names, workers), 1):
        total += amount
        advance(done, len(names))
    return total


def _some(samples: int) -> list[int]:
    return [int(row) for row in np.unique(np.linspace(0, samples - 1, min(samples, TRIED)).astype(int))]


def _whole(dataset: Dataset) -> Dataset:
    return dataset.whole if isinstance(dataset, Kept) else dataset


def _estimate(dataset: Stored, rows: list[int]) -> int:
    """Return about how many bytes the decoded samples take, by looking at a few."""
    sizes = [sum(dataset.decode(m, rows[k]).nbytes for m in dataset.decoded) for k in _some(len(rows))]
    return round(float(np.mean(sizes)) * len(rows))


def _size(dataset: Dataset, row: int) -> int:
    return sum(len(place.read_bytes()) + 1024 for place in dataset.sources(row).values())


def _refuse_small(out: Path, needed: int) -> None:
    """Refuse a disk that does not hold what is to be written."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(f"{out}: about {needed / 1e9:,.1f} GB are needed, and {free / 1e9:,.1f} GB are free")
