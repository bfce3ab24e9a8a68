"""What a person sees in a terminal: the data, a progress bar, the final table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cpsc_train.models import FUSED
from cpsc_train.output import Output, column
from cpsc_train.reporting.observer import Observer

FEW_STEPS = 10
"""Optimizer steps per epoch below which a hint is printed."""


class ConsoleObserver(Observer):
    """Shows a run on a terminal; where there is none, a line every tenth of the epochs instead of a bar.

    Parameters
    ----------
    console
        Where to write.
    verbose
        Whether every epoch also gets lines with all its figures.
    """

    def __init__(self, console: Output, *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._epochs = 0
        columns = (
            column("{task.fields[phase]}", justify="right"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            column("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=1, phase="starting", figures="")

    def start(self, description: dict[str, Any], *, epochs: int, path: Path, done: int) -> None:
        """Say which data went where."""
        data = description["data"]
        self._epochs = epochs
        self._console.print(
            f"{data['name']}  {data['rows']:,} rows, {data['classes']} classes, "
            f"modalities {' + '.join(data['modalities'])}\n"
            + "  ".join(f"{part} {data[part]:,}" for part in ("train", "calibration", "validation", "test"))
            + f"\nmethod {description['method']}, seed {description['seed']}, run folder {path}"
        )
        self._console.print(_steps(description["steps"]))
        if done:
            self._console.print(f"going on after epoch {done}")
        self._progress.update(self._task, total=epochs, completed=done)
        self._progress.start()

    def dropped(self, rows: Sequence[str]) -> None:
        """Say which rows are left out."""
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        self._console.print(f"left out {len(rows)} rows of the lists: {', '.join(rows[:3])}{more}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Advance the bar."""
        figures = _figures(record)
        self._progress.update(self._task, advance=1, phase=record["phase"], figures=figures)
        if self._verbose:
            for name in ("loss", "train", "qhat", "time"):
                figures_of = "  ".join(f"{key} {value:.3f}" for key, value in record[name].items())
                title = "in-loop q̂" if name == "qhat" else name
                self._console.print(f"epoch {record['epoch']} {title}: {figures_of}", soft_wrap=True)
        every = max(1, self._epochs // 10)
        if not self._console.is_terminal and (record["epoch"] % every == 0 or record["epoch"] == self._epochs):
            line = f"epoch {record['epoch']}/{self._epochs}  {record['phase']}  {figures}"
            self._console.print(line, soft_wrap=True)

    def finish(self, results: dict[str, Any]) -> None:
        """Leave the bar and print the tables."""
        self.close()
        print_results(results, self._console)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


def print_results(results: dict[str, Any], console: Output) -> None:
    """Print which epoch was kept, accuracy by condition and head, and coverage by part and head."""
    heads = [*results["data"]["modalities"], FUSED]
    if "selected" in results:
        kept = results["selected"]
        accuracy = 100 * kept["validation_accuracy"][FUSED]
        console.print(f"best epoch {kept['epoch']}, selected on validation rows: accuracy {accuracy:.1f}%")
    if "left_out" in results:
        rows = results["data"]["train"]
        console.print(f"{results['left_out']} of {rows} training rows have weight zero; rows.csv lists them first")
    table = Table(title="Test accuracy, %", title_justify="left")
    table.add_column("condition")
    for head in heads:
        table.add_column(head, justify="right")
    for condition, seen in results["test"].items():
        hit = {m: share for m, share in results.get("corrupted", {}).get(condition, {}).items() if share < 1}
        of = f" ({', '.join(f'{m} of {100 * share:.0f}% of the rows' for m, share in hit.items())})" if hit else ""
        table.add_row(condition + of, *(_percent(seen["accuracy"].get(head)) for head in heads))
    console.print(table)

    (target,) = {seen["target"] for part in results["coverage"].values() for seen in part.values()}
    sets = Table(title=f"Coverage of the prediction sets, target {target:.2f} (mean set size)", title_justify="left")
    sets.add_column("rows")
    for head in heads:
        sets.add_column(head, justify="right")
    rows = {f"{part} (clean)": seen for part, seen in results["coverage"].items()}
    rows |= {f"test ({name})": seen["coverage"] for name, seen in results["test"].items() if name != "clean"}
    for name, seen in rows.items():
        sets.add_row(name, *(_sets(seen.get(head)) for head in heads))
    console.print(sets)

    if "gate" in results["test"]["clean"]:
        gate = Table(title="Down-weighted by the gate, % of the test rows (mean weight)", title_justify="left")
        gate.add_column("condition")
        for modality in heads[:-1]:
            gate.add_column(modality, justify="right")
        for condition, seen in results["test"].items():
            gate.add_row(condition, *(_gated(seen["gate"].get(modality)) for modality in heads[:-1]))
        console.print(gate)


def _steps(steps: dict[str, int]) -> str:
    """Say how many optimizer steps an epoch has, and what to do where they are few."""
    count, batch_size, accumulate = steps["per_epoch"], steps["batch_size"], steps["accumulate"]
    rows = f"{accumulate} × {batch_size}" if accumulate > 1 else f"{batch_size}"
    text = f"{count:,} optimizer step{'s' * (count != 1)} per epoch, of {rows} rows each"
    if count >= FEW_STEPS:
        return text
    lower = "optimizer.accumulate or batch_size" if accumulate > 1 else "batch_size"
    return f"{text}: few steps to learn in; try a lower {lower}, or more epochs"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _sets(seen: dict[str, float] | None) -> str:
    return "–" if seen is None else f"{seen['coverage']:.3f} ({seen['mean_size']:.2f})"


def _gated(seen: dict[str, float] | None) -> str:
    return "–" if seen is None else f"{100 * seen['down_weighted']:.1f} ({seen['weight']:.2f})"


def _figures(record: dict[str, Any]) -> str:
    """Summarise an epoch: loss on training rows; accuracy, coverage and set size of the fused head on validation rows.

    Sets are those of a predictor calibrated after the epoch, q̂ is that of the one in the loop, where there is one.
    """
    accuracy, sets = record["validation"]["accuracy"][FUSED], record["validation"]["coverage"][FUSED]
    qhat = record["qhat"].get(f"qhat_{FUSED}")
    return (
        f"loss {sum(record['loss'].values()):.3f}  accuracy {100 * accuracy:.1f}%  "
        f"coverage {sets['coverage']:.3f}  set size {sets['mean_size']:.2f}"
        + ("" if qhat is None else f"  in-loop q̂ {qhat:.3f}")
    )
