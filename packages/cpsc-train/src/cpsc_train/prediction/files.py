"""Predictions for the samples in files, in constant memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from cpsc_train.errors import UserError, reason
from cpsc_train.prediction.formats import FORMATS, Row, as_line, check_format
from cpsc_train.prediction.inputs import STANDARD_INPUT, Sample, open_samples
from cpsc_train.prediction.journal import Journal
from cpsc_train.prediction.model import Inputs, Model, load
from cpsc_train.prediction.result import Prediction
from cpsc_train.runs import RunFolder
from cpsc_train.writing import check_writable, saying

Progress = Callable[[int, int | None], None]
"""Receives the number of completed samples and the total, which is None if unknown."""


@dataclass
class Written:
    """Numbers of samples in a file of predictions.

    Parameters
    ----------
    samples
        Samples with a row.
    unreadable
        Samples among them that could not be read and have no prediction.
    resumed
        Samples among them whose row was written before the interruption.
    """

    samples: int = 0
    unreadable: int = 0
    resumed: int = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        self.samples += 1
        self.unreadable += row["error"] is not None


def predict_files(
    run: str | os.PathLike[str],
    paths: Sequence[str],
    out: Path | IO[str],
    *,
    device: str | None = None,
    inference: str | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    advance: Progress = lambda _done, _all: None,
) -> Written:
    """Predict the samples in files and write a row for each, with an error for those that cannot be read.

    Parameters
    ----------
    run
        Run folder.
    paths
        As for `cpsc_train.prediction.inputs.open_samples`.
    out
        A ``.csv``, ``.jsonl`` or ``.parquet`` file, written when all samples are done; until then, rows are in
        ``OUT.unfinished``. Or an open text file, which receives JSON lines at once.
    device, inference
        As for `cpsc_train.load`.
    batch_size
        Samples per batch. If None, that of the run.
    resume
        Whether to continue after the rows in ``OUT.unfinished``, with the same inputs.
    advance
        Receives the progress.

    Returns
    -------
    Written
        Numbers of samples.

    Raises
    ------
    UserError
        If the run, the files, or an option cannot be used.
    """
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(out, Path):
        check_format(out)
        check_writable(out)
    elif resume:
        raise UserError("--resume needs --out, the file that was to be written")
    model = load(run, device=device, inference=inference)
    samples = open_samples(model, paths)
    rows, written = iter(samples.rows), Written()
    size = batch_size or model.batch_size

    def write_to(file: IO[str]) -> None:
        for batch in predicted(model, rows, size):
            for row in batch:
                file.write(as_line(row))
                written.add(row)
            file.flush()
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


def predicted(model: Model, samples: Iterator[Sample], batch_size: int) -> Iterator[list[Row]]:
    """Yield the rows of each batch, in order; a sample that cannot be read has an ``error`` and no prediction."""
    while batch := list(islice(samples, batch_size)):
        read = [_read(model, sample) for sample in batch]
        inputs = [one for one in read if not isinstance(one, str)]
        found = iter(model.predict_inputs(inputs))
        yield [
            _failed(sample.id, one) if isinstance(one, str) else _row(sample.id, next(found))
            for sample, one in zip(batch, read, strict=True)
        ]


def _read(model: Model, sample: Sample) -> Inputs | str:
    """Return the model inputs of a sample, or why there are none."""
    try:
        inputs = sample.read()
        model.check(inputs)
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
        written.add(row)
    written.resumed = written.samples


def _identity(folder: RunFolder, model: Model, paths: Sequence[str]) -> dict[str, Any]:
    """Return what the predictions of files depend on."""
    places = [path if path == STANDARD_INPUT or "://" in path else str(Path(path).resolve()) for path in paths]
    checksum = zlib.crc32(folder.checkpoint.read_bytes())
    return {"checkpoint": checksum, "inference": model.inference, "inputs": places}
