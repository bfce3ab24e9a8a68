"""Predictions for the samples in files, in constant memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from cpsc_train.data.prefetch import Prefetched, workers_explained
from cpsc_train.data.processes import cores
from cpsc_train.errors import UserError, reason
from cpsc_train.prediction.formats import FORMATS, Row, as_line, check_format
from cpsc_train.prediction.inputs import STANDARD_INPUT, Sample, Samples, Sources, open_samples
from cpsc_train.prediction.journal import Journal
from cpsc_train.prediction.model import Model, load
from cpsc_train.prediction.reading import Inputs
from cpsc_train.prediction.result import Prediction
from cpsc_train.runs import RunFolder
from cpsc_train.training.compute import MOST_WORKERS
from cpsc_train.writing import check_writable, saying

Progress = Callable[[int, int | None], None]
"""Receives the number of completed samples and the total, which is None if unknown."""
MANY = 1000
"""Samples for which processes that read them are worth their start, which takes seconds."""


@dataclass
class Written:
    """Numbers of samples in a file of predictions."""

    samples: int = 0
    """Samples with a row."""
    unreadable: int = 0
    """Samples among them that could not be read and have no prediction."""
    resumed: int = 0
    """Samples among them whose row was written before the interruption."""
    absent: set[str] | None = None
    """Modalities that every predicted sample lacks; None if none was predicted."""

    def add(self, rows: Sequence[Row]) -> None:
        """Count rows."""
        self.samples += len(rows)
        self.unreadable += sum(row["error"] is not None for row in rows)
        for missing in (set(row["missing"]) for row in rows if row["error"] is None):
            self.absent = missing if self.absent is None else self.absent & missing


def predict_files(
    run: str | os.PathLike[str],
    paths: Sequence[str],
    out: Path | IO[str],
    *,
    device: str | None = None,
    inference: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    advance: Progress = lambda _done, _all: None,
) -> Written:
    """Predict the samples in files and write a row for each, with an error for those that cannot be read.

    Raises UserError if the run, the files, or an option cannot be used.

    - `run`: run folder.
    - `paths`: as for `cpsc_train.prediction.inputs.open_samples`.
    - `out`: a ``.csv``, ``.jsonl`` or ``.parquet`` file, written when all samples are done; until then, rows are in
      ``OUT.unfinished``. Or an open text file, which receives JSON lines at once.
    - `device` and `inference`: as for `cpsc_train.load`.
    - `batch_size`: samples per batch. If None, that of the run.
    - `workers`: processes that read samples; 0 reads here. If None, one for each core, at most 8, if there are at least
      `MANY` samples with files to decode, else 0. Results do not depend on it.
    - `resume`: whether to continue after the rows in ``OUT.unfinished``, with the same inputs.
    - `advance`: receives the progress.

    Returns
    -------
    Written
        Numbers of samples.
    """
    for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
        if number is not None and number < least:
            raise UserError(f"{name} must be at least {least}, got {number}")
    if isinstance(out, Path):
        check_format(out)
        check_writable(out)
    elif resume:
        raise UserError("--resume needs --out, the file that was to be written")
    model = load(run, device=device, inference=inference)
    samples = open_samples(model, paths)
    rows, written = iter(samples.rows), Written()
    size, processes = batch_size or model.batch_size, _processes(model, samples, workers)

    def write_to(file: IO[str]) -> None:
        sources = Sources(model.reader, samples.datasets)
        with workers_explained("--workers"):
            for batch in _predicted(model, sources, _batches(rows, size), processes):
                file.writelines(map(as_line, batch))
                file.flush()
                written.add(batch)
                advance(written.samples, samples.count)

    if not isinstance(out, Path):
        write_to(out)
        return written
    journal = Journal(out, _identity(RunFolder(run), model, paths))
    if resume:
        _skip(rows, journal, written)
    else:
        journal.start()
    with saying(journal.path), journal.open() as file:
        write_to(file)
    FORMATS[out.suffix](out, journal.rows, model)
    journal.remove()
    return written


def _processes(model: Model, samples: Samples, wanted: int | None) -> int:
    """Return the number of processes that read samples; those of the standard input are read here, as they come."""
    if wanted and samples.count is None:
        raise UserError("workers must be 0 for the standard input, which this process reads")
    if wanted is not None or samples.decoded < MANY or not model.reader.decodes or cores() == 1:
        return wanted or 0
    return min(cores(), MOST_WORKERS)


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, size)):
        yield batch


def _predicted(model: Model, sources: Sources, batches: Iterator[list[Sample]], workers: int) -> Iterator[list[Row]]:
    """Yield the rows of each batch, in order; a sample that cannot be read has an ``error`` and no prediction."""
    for batch in Prefetched(partial(_read_batch, sources), batches, workers=workers, decodes=True):
        found = iter(model.predict_inputs([one for _, one in batch if not isinstance(one, str)]))
        yield [_failed(name, one) if isinstance(one, str) else _row(name, next(found)) for name, one in batch]


def _read_batch(sources: Sources, batch: Sequence[Sample]) -> list[tuple[str, Inputs | str]]:
    """Return the name of each sample with its model inputs, or why there are none."""
    return [(sample.id, _read(sources, sample)) for sample in batch]


def _read(sources: Sources, sample: Sample) -> Inputs | str:
    try:
        inputs = sample.read(sources)
        sources.reader.check(inputs)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or sample.id}: cannot be read ({reason(error)})"
    return inputs or "it has no modality of the model"


def _row(name: str, prediction: Prediction) -> Row:
    return {
        "id": name,
        "class": prediction.label,
        "set": list(prediction.prediction_set),
        "missing": list(prediction.missing),
        "trust": prediction.trust,
        "probabilities": prediction.probabilities,
        "error": None,
    }


def _failed(name: str, error: str) -> Row:
    nothing = dict.fromkeys(("class", "set", "missing", "trust", "probabilities"))
    return {"id": name, **nothing, "error": " ".join(error.split())}


def _skip(samples: Iterator[Sample], journal: Journal, written: Written) -> None:
    """Skip the samples that have a row already."""
    for row in journal.resume():
        sample = next(samples, None)
        if sample is None or sample.id != row["id"]:
            raise UserError(
                f"{journal.path}: its row {written.samples} is of {row['id']!r}, but the inputs have "
                f"{'no such row' if sample is None else repr(sample.id)}: remove it to start again"
            )
        written.add([row])
    written.resumed = written.samples


def _identity(folder: RunFolder, model: Model, paths: Sequence[str]) -> dict[str, Any]:
    places = [path if path == STANDARD_INPUT or "://" in path else str(Path(path).resolve()) for path in paths]
    checksum = zlib.crc32(folder.checkpoint.read_bytes())
    return {"checkpoint": checksum, "inference": model.inference, "inputs": places}
