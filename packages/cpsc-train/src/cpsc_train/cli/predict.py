"""``cpsc predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from cpsc_train.cli.options import Command, File, Quiet, flag, progress, value


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Predict new samples with the model of a run."""

    examples: ClassVar[str] = """\
A table has a column for each modality, with paths, texts or numbers separated by spaces; an empty cell is a missing
modality. The training data are not needed.

  cpsc predict runs/A new.csv --out predictions.csv
  cpsc predict runs/A new.npz --out predictions.parquet        an array for each modality
  cpsc predict runs/A data/crema-d --out predictions.jsonl     a folder in the layout of the data set
  cpsc predict runs/A new.csv --out predictions.csv --resume   after an interruption
  cat new.jsonl | cpsc predict runs/A - > predictions.jsonl
"""

    run_folder: Annotated[Path, tyro.conf.Positional, value("RUN")]
    """Run folder."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, value("PATH [PATH ...]")]
    """Files .csv, .tsv, .jsonl or .npz, or folders in the layout of the data set; - reads JSON lines from stdin."""
    out: File = None
    """File to write: .csv, .jsonl or .parquet. Default: JSON lines on the standard output."""
    inference: Annotated[str | None, value("NAME")] = None
    """Inference variant of the run, or plain. Default: trust, if the run has it."""
    device: Annotated[str | None, value("DEVICE")] = None
    """cpu, cuda, cuda:1 or auto. Default: that of the run."""
    batch_size: Annotated[int | None, value("N")] = None
    """Samples predicted at once. Default: the batch size of the run."""
    workers: Annotated[int | None, value("N")] = None
    """Processes that read samples. Default: all cores, at most 8, for 1,000 files or more, else 0."""
    resume: Annotated[bool, flag] = False
    """Continue an interrupted prediction of the same inputs to the same file."""
    quiet: Quiet = False
    """Print nothing but errors."""

    def run(self) -> int:
        import sys

        from cpsc_train.errors import UserError
        from cpsc_train.output import Output, print_error
        from cpsc_train.prediction.files import predict_files

        console = Output(quiet=self.quiet or self.out is None)
        with progress(console, "predicting") as advance:
            written = predict_files(
                self.run_folder,
                self.paths,
                sys.stdout if self.out is None else self.out,
                device=self.device,
                inference=self.inference,
                batch_size=self.batch_size,
                workers=self.workers,
                resume=self.resume,
                advance=advance,
            )
        before = f", {written.resumed:,} of them before" if written.resumed else ""
        console.print(f"written: {self.out} ({written.samples:,} samples{before})", soft_wrap=True)
        if written.absent and not self.quiet:
            names = ", ".join(sorted(written.absent))
            print_error(f"cpsc: note: no sample has {names}: a column, key or array of that name holds a modality")
        if written.unreadable:
            where = "" if self.out is None else f" of {self.out}"
            numbers = f"{written.unreadable:,} of {written.samples:,} samples"
            raise UserError(f"{numbers} could not be read: column error{where} has the reasons")
        return 0
