"""``cpsc stream``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from cpsc_train.cli.options import Command, File, Root, value

if TYPE_CHECKING:
    from cpsc_train.experiments.table import Table


@dataclass(frozen=True, kw_only=True)
class Stream(Command):
    """Predict the test rows of a run as a stream."""

    examples: ClassVar[str] = """\
Shows which conformal predictors keep their coverage. With the inference variant trust, also the trust of each
modality, and an alarm if its inputs are no longer exchangeable with those of calibration.

  cpsc stream runs/A                                           in the order of the data set
  cpsc stream runs/A --order group                             one speaker after another
  cpsc stream runs/A --order random --drift pix:gaussian:0.5   the second half is noisy
  cpsc stream runs/A --order random --drift pix:gaussian@1-5   noise that grows along the second half
  cpsc stream runs/A --picture coverage.png --out stream.json

split and weighted are calibrated once; weighted knows the features that will come. window, aci, dtaci and saocp learn
from each label after they have predicted it.
"""

    run_folder: Annotated[Path, tyro.conf.Positional, value("RUN")]
    """Run folder."""
    root: Root = None
    """Folder or address of the data set, if it has moved."""
    order: Annotated[Literal["data", "group", "random"], value("ORDER")] = "data"
    """Order of the rows: data (as listed), group (such as by speaker), random."""
    drift: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NOISE")] = ()
    """Noise of the second half, as MODALITY:KIND@1-5 or MODALITY:KIND:SEVERITY; several levels follow one another."""
    window: Annotated[int, value("N")] = 100
    """Consecutive rows over which the lowest coverage is reported."""
    delta: Annotated[float, value("D")] = 0.01
    """Probability of any false alarm on rows in random order."""
    picture: File = None
    """Also draw trust, evidence and coverage at each step, as PNG."""
    out: File = None
    """Also write the results to this JSON file."""

    def run(self) -> int:
        from cpsc_train.errors import UserError
        from cpsc_train.experiments.stream import stream
        from cpsc_train.writing import check_writable, write

        if self.window < 1:
            raise UserError(f"--window must be at least 1, got {self.window}")
        if not 0 < self.delta < 1:
            raise UserError(f"--delta must lie in (0, 1), got {self.delta}")
        for file in (self.out, self.picture):
            if file is not None:
                check_writable(file)
        results = stream(
            self.run_folder,
            order=self.order,
            drift=self.drift,
            window=self.window,
            delta=self.delta,
            picture=self.picture,
            root=self.root,
        )
        if self.out is not None:
            write(self.out, json.dumps(results, indent=1) + "\n")
        self._print(results)
        return 0

    def _print(self, results: dict[str, Any]) -> None:
        from cpsc_train.experiments.table import Table
        from cpsc_train.output import Output

        by_head = results["heads"] | ({"fused, trust": results["trust"]["fused"]} if "trust" in results else {})
        figures = {head: {name: _cell(c) for name, c in by.items()} for head, by in by_head.items()}
        title = (
            f"Coverage of {results['rows']} rows, target {results['target']:.2f} "
            f"(worst {self.window} in a row; mean set size)"
        )
        names = next(iter(figures.values()))
        rows = [[name, *(by.get(name, "–") for by in figures.values())] for name in names]
        output = Output()
        output.print(Table(title, ["predictor", *figures], rows).console())
        if "effective" in results:
            output.print(f"weighted: {results['calibration']} calibration rows count as {results['effective']:.1f}")
        if "trust" in results:
            for table in _trust(results["trust"], self.order):
                output.print(table.console())


def _trust(results: dict[str, Any], order: str) -> list[Table]:
    """Return the alarm of each modality, and its mean trust under each condition of the stream."""
    from cpsc_train.experiments.table import Table

    modalities = results["modalities"]
    alarms = [
        [m, "none" if one["alarm"] is None else f"row {one['alarm']}", f"{one['max']:.1f}"]
        for m, one in modalities.items()
    ]
    means = [
        [m, *("–" if mean is None else f"{mean:.2f}" for mean in one["trust"].values())]
        for m, one in modalities.items()
    ]
    title = f"Alarm that inputs have changed (P(any false alarm) ≤ {results['delta']:g} "
    title += "on unchanged rows)" if order == "random" else "with --order random; another order is a change, too)"
    conditions = list(next(iter(modalities.values()))["trust"])
    return [
        Table(title, ["modality", "alarm", "largest log10 martingale"], alarms),
        Table("Mean trust", ["condition", *conditions], means).transposed(),
    ]


def _cell(figures: dict[str, float]) -> str:
    return f"{figures['coverage']:.3f} ({figures['worst']:.2f}; {figures['mean_size']:.2f})"
