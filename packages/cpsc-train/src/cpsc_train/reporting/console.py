"""Output of a run on a terminal: the data, a progress bar, the final tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cpsc_train.models import FUSED
from cpsc_train.output import Output, column
from cpsc_train.reporting.figures import (
    ConstantReliability,
    coverage_and_size,
    down_weighted,
    lacking,
    percent,
    redistributed_text,
    spread_text,
)
from cpsc_train.reporting.observer import Observer

FEW_STEPS = 10
"""Optimizer steps per epoch below which a hint is printed."""


class ConsoleObserver(Observer):
    """Observer that prints a run: a bar on a terminal, elsewhere a line every tenth of the epochs.

    - `console`: output of the command.
    - `verbose`: whether to print all figures of every epoch.
    """

    def __init__(self, console: Output, *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._epochs = 0
        self._constant = ConstantReliability()
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
        data = description["data"]
        self._epochs = epochs
        self._console.print(
            f"{data['name']}  {data['rows']:,} rows, {data['classes']} classes, "
            f"modalities {' + '.join(data['modalities'])}\n"
            + "".join(f"  {name}: {summary}\n" for name, summary in data["inputs"].items())
            + "  ".join(f"{part} {data[part]:,}" for part in ("train", "calibration", "validation", "test"))
            + "".join(f"\n  {line}" for line in lacking(data))
            + f"\nmethod {description['method']}, seed {description['seed']}, run folder {path}"
        )
        self._console.print(_steps(description["steps"]))
        if done:
            self._console.print(f"resuming after epoch {done}")
        self._progress.update(self._task, total=epochs, completed=done)
        self._progress.start()

    def dropped(self, rows: Sequence[str]) -> None:
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        self._console.print(f"left out {len(rows)} rows of the lists: {', '.join(rows[:3])}{more}")

    def redistributed(self, before: int, now: int) -> None:
        self._console.print(redistributed_text(before, now), soft_wrap=True)

    def epoch(self, record: dict[str, Any]) -> None:
        figures = _figures(record)
        self._progress.update(self._task, advance=1, phase=record["phase"], figures=figures)
        if self._verbose:
            for name in ("loss", "train", "in_loop_quantile", "time"):
                figures_of = "  ".join(f"{key} {value:.3f}" for key, value in record[name].items())
                title = name.replace("in_loop_", "in-loop ")
                self._console.print(f"epoch {record['epoch']} {title}: {figures_of}", soft_wrap=True)
            if reliability := spread_text(record):
                self._console.print(f"epoch {record['epoch']} reliability: {reliability}", soft_wrap=True)
        if warning := self._constant(record):
            self._console.print(f"warning: {warning}", soft_wrap=True)
        every = max(1, self._epochs // 10)
        if not self._console.is_terminal and (record["epoch"] % every == 0 or record["epoch"] == self._epochs):
            line = f"epoch {record['epoch']}/{self._epochs}  {record['phase']}  {figures}"
            self._console.print(line, soft_wrap=True)

    def finish(self, results: dict[str, Any]) -> None:
        self.close()
        print_results(results, self._console, brief=True)

    def close(self) -> None:
        self._progress.stop()


def print_results(results: dict[str, Any], console: Output, *, brief: bool = False) -> None:
    """Print the selected epoch, accuracy by condition and head, and coverage by part and head.

    - `results`: content of ``results.json``.
    - `console`: output of the command.
    - `brief`: whether to print coverage and inference variants only under ``clean`` and the worst other condition, that
      with the lowest fused accuracy.
    """
    heads = [*results["data"]["modalities"], FUSED]
    if "selected" in results:
        selected = results["selected"]
        accuracy = percent(selected["validation_accuracy"][FUSED])
        console.print(f"best epoch {selected['epoch']}, selected on validation rows: accuracy {accuracy}%")
    if seen := results.get("seen", {}).get("training"):
        console.print(f"noise in training: {', '.join(seen)}", soft_wrap=True)
    if "left_out" in results:
        rows = results["data"]["train"]
        console.print(f"{results['left_out']} of {rows} training rows have weight zero; rows.csv lists them first")
    test = results["test"]
    accuracies = {name + _corrupted(results, name): condition["accuracy"] for name, condition in test.items()}
    console.print(_table("Test accuracy, %", "condition", heads, accuracies, percent))
    if results.get("curves"):
        areas = {kind: curve["area"] for kind, curve in results["curves"].items()}
        console.print(
            _table("Area under the severity curve, % (mean accuracy over the levels)", "kind", heads, areas, percent)
        )
    (target,) = {entry["target"] for part in results["coverage"].values() for entry in part.values()}
    sets = {f"{part} (clean)": of for part, of in results["coverage"].items()}
    shown = _clean_and_worst(test) if brief else {name: name for name in test}
    sets |= {f"test ({title})": test[name]["coverage"] for name, title in shown.items() if name != "clean"}
    title = f"Coverage of the prediction sets, target {target:.2f} (mean set size)"
    console.print(_table(title, "rows", heads, sets, coverage_and_size))
    if "inference" in results:
        for name, variant in results["inference"].items():
            for note in variant["notes"]:
                console.print(f"{name}: {note}", style="yellow", markup=False, highlight=False)
        for table in _inference(results, shown):
            console.print(table)


def _clean_and_worst(test: dict[str, Any]) -> dict[str, str]:
    """Return ``clean`` and the condition with the lowest fused accuracy, with their titles."""
    others = [name for name in test if name != "clean"]
    worst = min(others, key=lambda name: float(test[name]["accuracy"][FUSED]), default="")
    return {"clean": "clean"} | ({worst: f"worst: {worst}"} if others else {})


def _inference(results: dict[str, Any], shown: dict[str, str]) -> list[Table]:
    """Return fused test accuracy and coverage by condition with its title, and the rows that variants down-weight."""
    variants = {"plain": results["test"]} | {name: of["test"] for name, of in results["inference"].items()}

    def table(title: str, figure: str, text: Callable[[Any], str]) -> Table:
        cells = {
            title: {name: test[condition][figure][FUSED] for name, test in variants.items()}
            for condition, title in shown.items()
        }
        return _table(title, "condition", list(variants), cells, text)

    tables = [
        table("Fused test accuracy by inference, %", "accuracy", percent),
        table("Coverage of the fused prediction sets by inference (mean set size)", "coverage", coverage_and_size),
    ]
    for name, test in variants.items():
        if "trust" in test["clean"]:
            trust = {title: test[condition]["trust"] for condition, title in shown.items()}
            title = f"Down-weighted by {name}, % of the test rows (mean weight)"
            tables.append(_table(title, "condition", results["data"]["modalities"], trust, down_weighted))
    return tables


def _table(
    title: str, rows: str, heads: Sequence[str], cells: dict[str, dict[str, Any]], text: Callable[[Any], str]
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(rows, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right")
    for name, of in cells.items():
        table.add_row(name, *(text(of.get(head)) for head in heads))
    return table


def _corrupted(results: dict[str, Any], condition: str) -> str:
    """Return which modalities are noisy in how many rows, if not in all."""
    fractions = results.get("corrupted", {}).get(condition, {})
    parts = [f"{m} of {100 * fraction:.0f}% of the rows" for m, fraction in fractions.items() if fraction < 1]
    return f" ({', '.join(parts)})" if parts else ""


def _steps(steps: dict[str, int]) -> str:
    count, batch_size, accumulate = steps["per_epoch"], steps["batch_size"], steps["accumulate"]
    rows = f"{accumulate} × {batch_size}" if accumulate > 1 else f"{batch_size}"
    text = f"{count:,} optimizer step{'s' * (count != 1)} per epoch, of {rows} rows each"
    if count >= FEW_STEPS:
        return text
    lower = "optimizer.accumulate or batch_size" if accumulate > 1 else "batch_size"
    return f"{text}: few steps; try a lower {lower}, or more epochs"


def _figures(record: dict[str, Any]) -> str:
    """Summarise an epoch: loss on training rows; accuracy, coverage and set size of the fused head on validation rows.

    The sets have the threshold of a predictor calibrated after the epoch; the in-loop quantile is that of the predictor
    in the training loop, if it has one.
    """
    accuracy, sets = record["validation"]["accuracy"][FUSED], record["validation"]["coverage"][FUSED]
    quantile = record["in_loop_quantile"].get(FUSED)
    return (
        f"loss {sum(record['loss'].values()):.3f}  accuracy {percent(accuracy)}%  "
        f"coverage {sets['coverage']:.3f}  set size {sets['mean_size']:.2f}"
        + ("" if quantile is None else f"  in-loop quantile {quantile:.3f}")
    )
