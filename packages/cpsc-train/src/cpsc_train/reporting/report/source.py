"""The run folders of a report, the differences of their configurations, and their figures by condition."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED
from cpsc_train.reading import read_file
from cpsc_train.reporting.report.panel import colour, line
from cpsc_train.runs.folder import RunFolder

PLAIN = "plain"
"""Name of the prediction without an inference variant."""
DEPTH = 3
"""Levels of folders that are searched for runs."""
PROTOCOL = ("data", "splits", "missing", "noise", "protocols", "leave_out")
"""Keys of the configuration that comparable runs share."""


@dataclass(frozen=True)
class Run:
    """Content of a run folder."""

    name: str
    """Name that differs from those of the other runs."""
    path: Path
    """Its folder."""
    config: dict[str, Any]
    """Tables of ``config.toml``."""
    records: list[dict[str, Any]]
    """Lines of ``metrics.jsonl``."""
    results: dict[str, Any] | None
    """``results.json``; ``None`` if the run is not done."""
    predictions: dict[str, NDArray[Any]]
    """Arrays of ``predictions.npz``; empty if the run is not done."""
    environment: dict[str, Any]
    """``environment.json``."""

    @property
    def modalities(self) -> list[str]:
        """Their names, in order."""
        return list(self.config["data"]["modalities"])

    @property
    def heads(self) -> list[str]:
        """Modalities, then ``fused``."""
        return [*self.modalities, FUSED]

    @property
    def tests(self) -> dict[str, dict[str, Any]]:
        """Figures of the test rows by inference variant, `PLAIN` first, and condition; empty if the run is not done."""
        results = self.results or {}
        variants = {name: variant["test"] for name, variant in results.get("inference", {}).items()}
        return {PLAIN: results["test"]} | variants if results else {}

    @property
    def status(self) -> str:
        """``running``, ``done``, ``interrupted`` or ``failed``."""
        return str(self.environment.get("status", "unknown"))

    def of_epochs(self, *keys: str) -> tuple[list[int], list[Any]]:
        """Return the epochs whose record has a value under the nested `keys`, and those values."""
        pairs = [(record["epoch"], _under(record, keys)) for record in self.records]
        pairs = [(epoch, value) for epoch, value in pairs if value is not None]
        return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders. Raises UserError if one is neither, is given twice, or holds a file that cannot be read.

    `paths`: each a run folder, or a folder of runs.
    """
    folders = run_folders(paths)
    if not folders:
        raise UserError("a report needs at least one run folder")
    if len(set(folders)) < len(folders):
        raise UserError(f"{next(f for f in folders if folders.count(f) > 1)}: is given twice")
    return [_read(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders among `paths`, and those in the others; raise UserError if one has none."""
    return [folder for path in paths for folder in _runs_in(path)]


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return, by dotted key, the values of all runs for the keys of the configuration that differ.

    If a name differs, such as that of the method, the options that belong to it are left out.
    """
    flat = [_flat(run.config) for run in runs]
    keys = dict.fromkeys(key for table in flat for key in table)
    values = {key: [_text(table.get(key)) for table in flat] for key in keys}
    different = {key: of for key, of in values.items() if len(set(of)) > 1}
    others = tuple(key.removesuffix("name") for key in different if key.endswith(".name"))
    return {key: of for key, of in different.items() if key.endswith(".name") or not key.startswith(others)}


def protocol_differences(runs: Sequence[Run]) -> list[str]:
    """Return the keys of `PROTOCOL` in which runs differ."""
    return [key for key in PROTOCOL if any(run.config.get(key) != runs[0].config.get(key) for run in runs)]


def _runs_in(path: Path) -> list[Path]:
    resolved = path.resolve()
    if (resolved / "config.toml").is_file():
        return [resolved]
    if not resolved.is_dir():
        raise UserError(f"{path}: no such folder")
    pattern = "*"
    for _ in range(DEPTH):
        if folders := sorted(file.parent for file in resolved.glob(f"{pattern}/config.toml")):
            return folders
        pattern += "/*"
    raise UserError(f"{path}: is neither a run folder (it has no config.toml) nor a folder of runs")


def _names(folders: Sequence[Path]) -> list[str]:
    if len(folders) == 1:
        return [folders[0].name]
    common = Path(os.path.commonpath(folders))
    parts = [folder.relative_to(common).parts for folder in folders]
    while len({of[-1] for of in parts}) == 1 and min(map(len, parts)) > 1:  # such as the seed
        parts = [of[:-1] for of in parts]
    return ["/".join(of) for of in parts]


def _read(path: Path, name: str) -> Run:
    folder = RunFolder(path)
    return Run(
        name=name,
        path=path,
        config=folder.read_config(),
        records=folder.read_metrics(),
        results=folder.read_results(),
        predictions=read_npz(folder.predictions) if folder.predictions.exists() else {},
        environment=_json(path / "environment.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(parse_json(read_file(path)))
    except ValueError as error:
        raise UserError(f"{path}: is not readable JSON ({error})") from None


def _under(record: dict[str, Any], keys: Sequence[str]) -> Any:
    value: Any = record
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        dotted = f"{path}.{key}" if path else key
        flat |= _flat(value, dotted) if isinstance(value, dict) else {dotted: value}
    return flat


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


MARKERS = ("o", "o", "^", "s", "D")
"""Markers by inference variant; that of the plain prediction is hollow."""


@dataclass(frozen=True)
class Series:
    """Figures of the test rows by condition, of one run and inference variant."""

    name: str
    """Of the variant; of several runs, that of the run, or ``RUN + VARIANT``."""
    run: Run
    """The run."""
    test: dict[str, dict[str, Any]]
    """Its figures by condition."""
    colour: str
    line: str
    marker: str
    """Style in pictures: of one run, the colour distinguishes variants; of several, runs."""

    @property
    def hollow(self) -> bool:
        """Whether this is the prediction without a variant."""
        return self.name in {PLAIN, self.run.name}

    @property
    def style(self) -> dict[str, Any]:
        """Options of `plot`, but for the line and the size of the marker."""
        face = {"markerfacecolor": "none"} if self.hollow else {}
        return {"color": self.colour, "marker": self.marker, "label": self.name, **face}

    def figure(self, condition: str, value: Callable[[dict[str, Any]], float]) -> float:
        """Return a figure under a condition; nan if the run was not evaluated under it."""
        return value(self.test[condition]) if condition in self.test else np.nan


def series(runs: Sequence[Run]) -> list[Series]:
    """Return the series of the runs that are done."""
    found = []
    for place, run in enumerate(runs):
        for way, (variant, test) in enumerate(run.tests.items()):
            if len(runs) == 1:
                name, style = variant, (colour(way), line(8 * way))
            else:
                name = run.name if variant == PLAIN else f"{run.name} + {variant}"
                style = (colour(place), line(place + 8 * way))
            found.append(Series(name, run, test, *style, MARKERS[way % len(MARKERS)]))
    return found


def fused(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the fused prediction sets under a condition."""
    return dict(figures["coverage"][FUSED])
