"""Everything of a data set is read once, before training, and what is wrong is told by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset
from cpsc_train.data.families.stored import Stored
from cpsc_train.data.preparation.work import Advance, each, nothing
from cpsc_train.data.splits import SplitConfig, Splits
from cpsc_train.errors import DataError, UserError, out_of_memory

SILENT = 1e-3
"""Peak of a waveform, of 1, under which it counts as silent: −60 dB."""
HARMLESS = frozenset({"blank"})
"""Kinds that stop nothing: videos do fade to black."""
ROWS = 32
"""Samples that a process checks at a time."""
Found = dict[str, DataError]


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Parameters
    ----------
    dataset
        What can be used, before samples were read.
    faults
        By sample or line: what is wrong.
    notes
        What a person should know.
    splits
        How the samples would be divided; ``None`` where they cannot be.
    """

    dataset: Dataset
    faults: Mapping[str, DataError]
    notes: Sequence[DataError]
    splits: Splits | None

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Return by part the samples of each class, (C,)."""
        labels, classes = self.dataset.labels, len(self.dataset.classes)
        parts = {"all": np.arange(len(labels))} if self.splits is None else vars(self.splits)
        return {part: np.bincount(labels[rows], minlength=classes) for part, rows in parts.items()}

    def present(self) -> dict[str, NDArray[np.int64]]:
        """Return by modality the samples of each class that can be read in it, (C,)."""
        dataset = self.dataset
        found = {}
        for modality in dataset.modalities:
            broken = {place for place, error in self.faults.items() if modality in error.modalities}
            whole = np.array([sample not in broken for sample in dataset.ids], dtype=np.bool_)
            found[modality] = np.bincount(dataset.labels[whole], minlength=len(dataset.classes))
        return found


def check(
    config: DataConfig,
    splits: SplitConfig,
    *,
    workers: int = 0,
    by_group: bool = False,
    advance: Advance = nothing,
) -> Checked:
    """Read every file of a data set.

    Parameters
    ----------
    config
        The data set; its skip list is not looked at.
    splits
        How it is to be divided.
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
    faults: Found = dict(dataset.faults)
    contents: dict[str, dict[str, str]] = {}
    done = 0
    notes = list(dataset.notes)
    names = [f"one of {ROWS} samples from {dataset.ids[row]} on" for row in range(0, len(dataset), ROWS)]
    by_number = {}
    for number, read in each(_Reading(dataset), names, workers):
        by_number[number] = read
        done += ROWS
        advance(min(done, len(dataset)), len(dataset))
    for _, (found, harmless, hashes) in sorted(by_number.items()):  # in the order of the data set, whoever was first
        for place, error in found.items():
            faults.setdefault(place, error)
        notes += harmless
        contents |= hashes
    if dataset.dropped:
        notes.append(DataError(f"{dataset.dropped[0]}: is left out, the first of {len(dataset.dropped)}", "left out"))
    divided: Splits | None = None
    try:
        divided = Splits.of(dataset, splits)
    except UserError as error:
        faults["(division)"] = DataError(f"the samples cannot be divided: {error}", "no division")
    if divided is not None:
        _overlaps(dataset, divided, contents, faults, notes, by_group=by_group)
    return Checked(dataset, faults, notes, divided)


@dataclass(frozen=True)
class _Reading:
    """Reads a few samples."""

    dataset: Dataset

    def __call__(self, number: int) -> tuple[Found, list[DataError], dict[str, dict[str, str]]]:
        dataset = self.dataset
        faults: Found = {}
        odd: list[DataError] = []
        hashes: dict[str, dict[str, str]] = {}
        for row in range(number * ROWS, min(len(dataset), (number + 1) * ROWS)):
            sample = dataset.ids[row]
            every = list(_wrong(dataset, row))
            odd += [error for error in every if error.kind in HARMLESS]
            found = [error for error in every if error.kind not in HARMLESS]
            if found:
                faults[sample] = found[0]
                faults[sample].modalities = tuple(m for error in found for m in error.modalities)
            else:
                hashes[sample] = {
                    ending: hashlib.blake2b(place.read_bytes(), digest_size=12).hexdigest()
                    for ending, place in dataset.sources(row).items()
                }
        return faults, odd, hashes


def _wrong(dataset: Dataset, row: int) -> Iterator[DataError]:
    """Return what is wrong with a sample, at most one thing a modality."""
    sound = True
    for modality in dataset.modalities:
        try:
            error = _wrong_values(dataset, modality, row)
        except DataError as found:
            error = found
        except OSError as found:
            if out_of_memory(found):
                raise
            error = DataError(f"{found.filename or dataset.ids[row]}: cannot be read ({found})", "unreadable")
        if error is not None:
            sound = False
            error.modalities = (modality,)
            yield error
    if sound:
        yield from dataset.examine(row)


def _wrong_values(dataset: Dataset, modality: str, row: int) -> DataError | None:
    known = dataset.modalities[modality]
    if isinstance(dataset, Stored) and modality in dataset.partly:
        dataset.decode(modality, row)
    values = dataset.read(modality, np.array([row]))
    places = [str(place) for place in dataset.sources(row).values()]
    name = f"{places[0] if len(places) == 1 else dataset.ids[row]}: {modality}"
    if known.kind == "text" and values.dtype == object:
        return None if str(values[0]).strip() else DataError(f"{name} is an empty text", "empty")
    if not np.isfinite(values).all():
        return DataError(f"{name} holds values that are not finite", "not finite")
    if known.kind == "sound" and np.abs(values).max() < SILENT:
        return DataError(f"{name} is silent: its peak is {float(np.abs(values).max()):.2g} of 1", "silent")
    if known.kind == "image" and np.ptp(values) == 0:
        return DataError(f"{name} is blank: all values are {float(values.flat[0]):g}", "blank")
    inputs = dataset.inputs(modality, values)
    if known.spectrum is None and inputs.shape != (1, *known.shape):
        return DataError(f"{name} must have the shape {known.shape}, got {inputs.shape[1:]}", "wrong size")
    return None


def _overlaps(
    dataset: Dataset,
    splits: Splits,
    contents: Mapping[str, Mapping[str, str]],
    faults: Found,
    notes: list[DataError],
    *,
    by_group: bool,
) -> None:
    """Look for what is in two parts: an id, a file under two names, a speaker."""
    part = {int(row): name for name, rows in vars(splits).items() for row in rows}
    if len(part) != sum(splits.sizes.values()):
        faults["(division)"] = DataError("a sample is in two parts of the division", "id in two splits")
    first: dict[tuple[str, str], int] = {}
    for row, sample in enumerate(dataset.ids):
        for ending, content in contents.get(sample, {}).items():
            before = first.setdefault((ending, content), row)
            if part.get(before) != part.get(row):
                told = (
                    f"{sample} of {part.get(row)} has the same {ending} as {dataset.ids[before]} of {part.get(before)}"
                )
                notes.append(DataError(told, "same file in two parts"))
    if dataset.groups is None:
        if by_group:
            raise UserError("--by-speaker: this data set does not say who a sample is of")
        return
    seen: dict[str, set[str]] = {}
    for row, name in part.items():
        seen.setdefault(dataset.groups[row], set()).add(name)
    tested = {group: parts for group, parts in seen.items() if "test" in parts and len(parts) > 1}
    if tested:
        group, parts = next(iter(tested.items()))
        told = f"{group} is in {', '.join(sorted(parts))}, the first of {len(tested)} of {len(seen)} speakers in test"
        if by_group:
            faults["(speakers)"] = DataError(told, "speaker in two parts")
        else:
            notes.append(DataError(f"{told} and elsewhere: accuracy is not that of unknown speakers", "speakers"))


def balance(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return the number of samples, the share of the most frequent class, and the ratio of most to least frequent.

    Examples
    --------
    >>> balance(np.array([30, 10]))
    {'samples': 40, 'majority': 0.75, 'imbalance': 3.0}
    """
    total = int(counts.sum())
    share = float(counts.max() / total) if total else float("nan")
    ratio = float(counts.max() / counts.min()) if counts.size and counts.min() else float("inf")
    return {"samples": total, "majority": share, "imbalance": ratio}


def kinds(errors: Sequence[DataError]) -> Counter[str]:
    """Return how many there are of each kind."""
    return Counter(error.kind for error in errors)
