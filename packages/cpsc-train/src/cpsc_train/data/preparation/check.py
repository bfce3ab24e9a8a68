"""Check of all samples of a data set before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.preparation.work import Advance, each, silent
from cpsc_train.data.splits import SplitConfig, Splits
from cpsc_train.errors import DataError, UserError, out_of_memory

SILENT = 1e-3
"""Peak of a waveform, out of 1, below which it counts as silent: −60 dB."""
HARMLESS = frozenset({"blank"})
"""Kinds of errors that do not prevent training: videos do fade to black."""
ROWS = 32
"""Samples that a process checks at a time."""
Hashes = dict[str, dict[str, str]]
"""Hash of each file, by sample and ending."""


@dataclass(frozen=True)
class Checked:
    """Result of a check."""

    dataset: Dataset
    """The samples listed, before any was read."""
    faults: dict[str, DataError]
    """Errors by sample or line."""
    notes: list[DataError]
    """Irregularities that prevent nothing."""
    splits: Splits | None
    """The division of the samples, or ``None`` if they cannot be divided."""

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Return the samples of each class, (C,), by part."""
        labels, classes = self.dataset.labels, len(self.dataset.classes)
        parts = {"all": np.arange(len(labels))} if self.splits is None else vars(self.splits)
        return {part: np.bincount(labels[rows], minlength=classes) for part, rows in parts.items()}

    def present(self) -> dict[str, NDArray[np.int64]]:
        """Return the readable samples of each class, (C,), by modality."""
        dataset = self.dataset
        counts = {}
        for modality in dataset.modalities:
            broken = {place for place, error in self.faults.items() if modality in error.modalities}
            readable = np.array([sample not in broken for sample in dataset.ids], dtype=np.bool_)
            readable &= dataset.presence.get(modality, np.True_)
            counts[modality] = np.bincount(dataset.labels[readable], minlength=len(dataset.classes))
        return counts


def check(
    config: DataConfig, splits: SplitConfig, *, workers: int = 0, by_group: bool = False, advance: Advance = silent
) -> Checked:
    """Read every file of a data set.

    Parameters
    ----------
    config, splits
        The data set, whose skip list is ignored, and its division.
    workers
        Processes; 0 reads here.
    by_group
        Whether a speaker in two parts is a fault.
    advance
        Called with how many samples are done, of how many.

    Raises
    ------
    UserError
        If the data set cannot be opened at all, or a library that reads it is missing.
    """
    dataset = config.load()
    names = [f"one of {ROWS} samples from {dataset.ids[row]} on" for row in range(0, len(dataset), ROWS)]
    results = {}
    for number, result in each(partial(_check_rows, dataset), names, workers):
        results[number] = result
        advance(min(len(results) * ROWS, len(dataset)), len(dataset))
    checked = Checked(dataset, dict(dataset.faults), list(dataset.notes), None)
    hashes: Hashes = {}
    for _, (faults, notes, hashed) in sorted(results.items()):
        for place, error in faults.items():
            checked.faults.setdefault(place, error)
        checked.notes.extend(notes)
        hashes |= hashed
    if dataset.dropped:
        left_out = f"{dataset.dropped[0]}: is left out, the first of {len(dataset.dropped)}"
        checked.notes.append(DataError(left_out, "left out"))
    try:
        division = Splits.of(dataset, splits)
    except UserError as error:
        checked.faults["(division)"] = DataError(f"the samples cannot be divided: {error}", "no division")
        return checked
    checked = Checked(dataset, checked.faults, checked.notes, division)
    part = {int(row): name for name, rows in vars(division).items() for row in rows}
    if len(part) != sum(division.sizes.values()):
        checked.faults["(division)"] = DataError("a sample is in two parts of the division", "id in two splits")
    checked.notes.extend(_repeated_files(dataset, part, hashes))
    _check_groups(checked, part, by_group=by_group)
    return checked


def _check_rows(dataset: Dataset, number: int) -> tuple[dict[str, DataError], list[DataError], Hashes]:
    """Return faults by sample, notes, and hashes of files of a few samples."""
    faults: dict[str, DataError] = {}
    notes: list[DataError] = []
    hashes: Hashes = {}
    for row in range(number * ROWS, min(len(dataset), (number + 1) * ROWS)):
        sample = dataset.ids[row]
        errors = list(_errors(dataset, row))
        notes += [error for error in errors if error.kind in HARMLESS]
        serious = [error for error in errors if error.kind not in HARMLESS]
        if serious:
            faults[sample] = serious[0]
            faults[sample].modalities = tuple(m for error in serious for m in error.modalities)
        else:
            hashes[sample] = {
                ending: hashlib.blake2b(place.read_bytes(), digest_size=12).hexdigest()
                for ending, place in dataset.sources(row).items()
            }
    return faults, notes, hashes


def _errors(dataset: Dataset, row: int) -> Iterator[DataError]:
    """Yield the errors of a sample, at most one per modality."""
    sound = True
    for modality in dataset.modalities:
        if modality in dataset.presence and not dataset.presence[modality][row]:
            continue
        try:
            error = _value_error(dataset, modality, row)
        except DataError as raised:
            error = raised
        except OSError as raised:
            if out_of_memory(raised):
                raise
            error = DataError(f"{raised.filename or dataset.ids[row]}: cannot be read ({raised})", "unreadable")
        if error is not None:
            sound = False
            error.modalities = (modality,)
            yield error
    if sound:
        yield from dataset.examine(row)


def _value_error(dataset: Dataset, modality: str, row: int) -> DataError | None:
    form = dataset.modalities[modality]
    if isinstance(dataset, Stored) and modality in dataset.partly:
        dataset.decode(modality, row)
    values = dataset.read(modality, np.array([row]))
    places = [str(place) for place in dataset.sources(row).values()]
    name = f"{places[0] if len(places) == 1 else dataset.ids[row]}: {modality}"
    if form.kind == "text" and values.dtype == object:
        return None if str(values[0]).strip() else DataError(f"{name} is an empty text", "empty")
    if not np.isfinite(values).all():
        return DataError(f"{name} holds values that are not finite", "not finite")
    if form.kind == "sound" and np.abs(values).max() < SILENT:
        return DataError(f"{name} is silent: its peak is {float(np.abs(values).max()):.2g} of 1", "silent")
    if form.kind == "image" and np.ptp(values) == 0:
        return DataError(f"{name} is blank: all values are {float(values.flat[0]):g}", "blank")
    inputs = dataset.inputs(modality, values)
    if form.spectrum is None and inputs.shape != (1, *form.shape):
        return DataError(f"{name} must have the shape {form.shape}, got {inputs.shape[1:]}", "wrong size")
    return None


def _repeated_files(dataset: Dataset, part: Mapping[int, str], hashes: Hashes) -> Iterator[DataError]:
    """Yield a note for each file that occurs under two names in two parts."""
    first: dict[tuple[str, str], int] = {}
    for row, sample in enumerate(dataset.ids):
        for ending, content in hashes.get(sample, {}).items():
            before = first.setdefault((ending, content), row)
            if part.get(before) != part.get(row):
                one, other = f"{sample} of {part.get(row)}", f"{dataset.ids[before]} of {part.get(before)}"
                yield DataError(f"{one} has the same {ending} as {other}", "same file in two parts")


def _check_groups(checked: Checked, part: Mapping[int, str], *, by_group: bool) -> None:
    """Add a note, or with `by_group` a fault, if a speaker is in test and another part."""
    groups = checked.dataset.groups
    if groups is None:
        if by_group:
            raise UserError("--by-speaker: this data set does not name the speaker of a sample")
        return
    parts_of: dict[str, set[str]] = {}
    for row, name in part.items():
        parts_of.setdefault(groups[row], set()).add(name)
    tested = {group: parts for group, parts in parts_of.items() if "test" in parts and len(parts) > 1}
    if not tested:
        return
    group, parts = next(iter(tested.items()))
    where = f"{group} is in {', '.join(sorted(parts))}, the first of {len(tested)} of {len(parts_of)} speakers in test"
    if by_group:
        checked.faults["(speakers)"] = DataError(where, "speaker in two parts")
    else:
        checked.notes.append(DataError(f"{where} and elsewhere: accuracy is not that of unknown speakers", "speakers"))


def balance(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return the number of samples, the fraction of the most frequent class, and the ratio of most to least frequent.

    Examples
    --------
    >>> balance(np.array([30, 10]))
    {'samples': 40, 'majority': 0.75, 'imbalance': 3.0}
    """
    total = int(counts.sum())
    majority = float(counts.max() / total) if total else float("nan")
    imbalance = float(counts.max() / counts.min()) if counts.size and counts.min() else float("inf")
    return {"samples": total, "majority": majority, "imbalance": imbalance}


def kinds(errors: Sequence[DataError]) -> Counter[str]:
    """Return the number of errors of each kind."""
    return Counter(error.kind for error in errors)
