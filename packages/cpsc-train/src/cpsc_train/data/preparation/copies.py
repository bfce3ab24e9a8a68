"""Copies of a data set: decoded samples in a cache, sound and frames of videos, and the list of its division."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import DataConfig, unfiltered
from cpsc_train.data.families.clips import RATE, Clip, ClipConfig, Clips
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.media.sound import Samples, read_sound, resample
from cpsc_train.data.media.video import Video, every
from cpsc_train.data.preparation.work import Advance, refuse_small, silent, total
from cpsc_train.data.splits import SplitConfig, Splits, by_group, rows_by_part
from cpsc_train.data.storage.cache import chunks
from cpsc_train.data.storage.files import recorded
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import UserError, reason
from cpsc_train.reading import read_file
from cpsc_train.writing import locked, make_folder, refuse_link, replacing, write


def fill_cache(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = silent) -> int:
    """Decode a data set into memory-mapped files, resuming where an earlier call stopped. Return the bytes written.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set is not read from files, the disk is too small, or `out` holds another
        cache.
    """
    kept = config.open()
    dataset = unfiltered(kept)
    if not isinstance(dataset, Stored):
        raise UserError(f"{config.name}: its samples are in memory already: there is nothing to cache")
    ids = frozenset(kept.ids)
    rows = [row for row, sample in enumerate(dataset.ids) if sample in ids]
    refuse_small(out, len(rows), lambda k: sum(dataset.decode(m, rows[k]).nbytes for m in dataset.decoded))
    parts = chunks(len(dataset))
    names = [f"one of {len(part)} samples from {dataset.ids[part[0]]} on" for part in parts]
    make_folder(out)
    with locked(out, busy="filling it"):
        _begin(out, dataset)
        return total(partial(_write_chunk, out, dataset, parts, ids), names, workers, advance)


def _begin(folder: Path, dataset: Stored) -> None:
    """Write the head of a cache, or accept one of the same options; raise UserError for another or a damaged one."""
    head = {"hash": dataset.cache_key(), "of": dataset.decoding(), "samples": len(dataset)}
    file = folder / "cache.json"
    if file.is_file():
        try:
            existing = parse_json(read_file(file))["hash"]
        except (OSError, ValueError, TypeError, LookupError):
            existing = None  # of a process that was killed while it wrote the head, before anything else
        if existing == head["hash"]:
            return
        if existing is not None or any(folder.glob("*-*.json")):
            raise UserError(f"{folder}: holds a cache of other options or other samples: choose another folder")
    write(file, json.dumps(head, indent=1) + "\n")


def _write_chunk(folder: Path, dataset: Stored, parts: list[range], ids: AbstractSet[str], number: int) -> int:
    """Write the decoded samples of a chunk with these ids, one file per modality, unless they are there already."""
    written = 0
    for modality in dataset.decoded:
        name = folder / f"{modality}-{number:05d}"
        if name.with_suffix(".json").is_file():
            continue
        index: dict[str, tuple[int, list[int], str]] = {}
        with replacing(name.with_suffix(".bin")) as file:
            for row in parts[number]:
                sample = dataset.ids[row]
                if sample not in ids:
                    continue
                array = dataset.decode(modality, row)
                index[sample] = (file.tell(), list(array.shape), array.dtype.str)
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(b"\0" * (-file.tell() % 16))  # every array is aligned for any dtype
            written += file.tell()
        write(name.with_suffix(".json"), json.dumps(index))
    return written


QUALITY = 95
"""JPEG quality of the frames."""
RECORDING = 150_000
"""Approximate bytes of an extracted recording."""


def extract(config: DataConfig, out: Path, *, workers: int = 0, advance: Advance = silent) -> int:
    """Extract sound and frames of videos, resuming where an earlier call stopped. Return the number of recordings.

    Sound becomes 16-bit WAV, mono, 22,050 Hz; frames become JPEG. Lists are copied.

    Raises
    ------
    UserError
        As `DataConfig.open`; if the data set has no recordings, or the folder cannot be written.
    """
    with recorded() as lists:
        kept = config.open()
    dataset = unfiltered(kept)
    if not isinstance(dataset, Clips) or not isinstance(config, ClipConfig):
        raise UserError(f"{config.name}: only recordings with sound and frames can be taken apart")
    refuse_small(out, len(kept), lambda _: RECORDING)
    make_folder(out)
    clips = [dataset.clips[row] for row in StringArray.of(dataset.ids).find(StringArray.of(kept.ids))]
    with locked(out, busy="taking recordings apart into it"):
        done = total(partial(_extract, out, config, clips), kept.ids, workers, advance)
        for place in lists:
            write(out / place.name, place.read_bytes())
    return done


def _extract(out: Path, config: ClipConfig, clips: list[Clip], number: int) -> int:
    """Write sound and frames of one recording, the folder of the frames last."""
    clip = clips[number]
    sound, frames = out / config.DERIVED[0] / f"{clip.name}.wav", out / config.DERIVED[1] / clip.name
    refuse_link(sound, below=out)
    refuse_link(frames, below=out)
    try:
        if "audio" in config.modalities and not sound.is_file():
            _write_sound(sound, *read_sound(clip.sound))
        if "video" in config.modalities and not frames.is_dir():
            partial_folder = frames.with_name(f"{clip.name}.partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir(parents=True)
            images = clip.frames.at(every)
            if clip.end is not None and isinstance(clip.frames, Video):  # images are placed by their number
                images += images[-1:] * (round(clip.length * clip.frames.fps) - len(images))
            for k, image in enumerate(images):
                image.save(partial_folder / f"{k:05d}.jpg", quality=QUALITY)
            partial_folder.replace(frames)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({reason(error)})") from None
    return 1


def _write_sound(path: Path, samples: Samples, rate: int) -> None:
    import soundfile  # noqa: PLC0415  # an extra

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(resample(samples, rate, RATE), -1, 1), RATE, subtype="PCM_16", format="WAV")
    write(path, encoded.getvalue())


def write_splits(
    config: DataConfig, splits: SplitConfig, out: Path, by: Literal["official", "speaker", "stratified"]
) -> Splits:
    """Divide a data set and write the ids of each part in the form of ``splits.file``.

    Parameters
    ----------
    config, splits
        The data set, and the fractions.
    out
        The file.
    by
        ``official``: as the data set defines, as far as it does; ``speaker``: no speaker in two of training, validation
        and test; ``stratified``: each class in the same proportion in all parts.

    Raises
    ------
    UserError
        If the data set has no speakers, or no division of its own; or the file cannot be written.
    """
    dataset = config.open()
    parts = dataset.parts
    if by == "official" and parts is None:
        raise UserError(f"{config.name}: has no official division here: use --by stratified")
    if by == "speaker":
        if dataset.groups is None:
            raise UserError(f"{config.name}: does not name the speaker of a sample: use --by stratified")
        parts = rows_by_part(by_group(list(dataset.groups), splits.seed))
    division = Splits.draw(dataset.labels, replace(splits, official=by != "stratified", file=None), parts)
    make_folder(out.parent)
    division.save(out, dataset)
    return division
