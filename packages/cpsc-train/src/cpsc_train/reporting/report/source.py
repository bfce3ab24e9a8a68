"""What a report is made of: run folders, read once, and what sets them apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED
from cpsc_train.reading import read_file
from cpsc_train.runs.folder import RunFolder

DEPTH = 3
"""How many folders below a given one runs are looked for."""
PROTOCOL = ("data", "splits", "noise", "protocols", "missing")
"""What must be the same for figures of two runs to be compared."""


@dataclass(frozen=True)
class Run:
    """All that a run folder says.

    Parameters
    ----------
    name
        What tells it from the other runs of the report.
    path
        Its folder.
    config
        Tables of ``config.toml``.
    records
        Lines of ``metrics.jsonl``.
    results
        ``results.json``; ``None`` while the run is not done.
    predictions
        Arrays of ``predictions.npz``; none while the run is not done.
    environment
        ``environment.json``.
    """

    name: str
    path: Path
    config: dict[str, Any]
    records: list[dict[str, Any]]
    results: dict[str, Any] | None
    predictions: dict[str, NDArray[Any]]
    environment: dict[str, Any]

    @property
    def modalities(self) -> list[str]:
        """Their names, in order."""
        return list(self.config["data"]["modalities"])

    @property
    def heads(self) -> list[str]:
        """Modalities, then ``fused``."""
        return [*self.modalities, FUSED]

    @property
    def status(self) -> str:
        """``running``, ``done``, ``interrupted`` or ``failed``."""
        return str(self.environment.get("status", "unknown"))

    def of_epochs(self, *keys: str) -> tuple[list[int], list[Any]]:
        """Return epochs, and what stands under nested `keys` in their lines; lines that lack it are left out."""
        found = [(record["epoch"], _under(record, keys)) for record in self.records]
        kept = [(epoch, value) for epoch, value in found if value is not None]
        return [epoch for epoch, _ in kept], [value for _, value in kept]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders.

    Parameters
    ----------
    paths
        Each a run folder, or a folder of runs.

    Raises
    ------
    UserError
        If one is neither, is given twice, or holds a file that cannot be read.
    """
    folders = [folder for path in paths for folder in _runs_in(path)]
    if not folders:
        raise UserError("a report needs at least one run folder")
    if len(set(folders)) < len(folders):
        raise UserError(f"{next(f for f in folders if folders.count(f) > 1)}: is given twice")
    return [_read(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the values of all runs, by dotted key, of those keys of the configuration that are not the same in all.

    Of two methods, say, that have other options each, the name alone is told.
    """
    flat = [_flat(run.config) for run in runs]
    keys = dict.fromkeys(key for table in flat for key in table)
    values = {key: [_text(table.get(key)) for table in flat] for key in keys}
    found = {key: of for key, of in values.items() if len(set(of)) > 1}
    others = tuple(key.removesuffix("name") for key in found if key.endswith(".name"))
    return {key: of for key, of in found.items() if key.endswith(".name") or not key.startswith(others)}


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
        found = sorted(file.parent for file in resolved.glob(f"{pattern}/config.toml"))
        if found:
            return found
        pattern += "/*"
    raise UserError(f"{path}: is not a run folder (it has no config.toml), and no folder of runs")


def _names(folders: Sequence[Path]) -> list[str]:
    """Return what is different in the paths."""
    if len(folders) == 1:
        return [folders[0].name]
    common = Path(os.path.commonpath(folders))
    parts = [folder.relative_to(common).parts for folder in folders]
    while len({of[-1] for of in parts}) == 1 and min(map(len, parts)) > 1:  # such as the same seed of several variants
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
        predictions=_arrays(folder.predictions),
        environment=_json(path / "environment.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = read_file(path)
    try:
        return dict(parse_json(content))
    except ValueError as error:
        raise UserError(f"{path}: is not readable JSON ({error})") from None


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        return {}
    return read_npz(path)


def _under(record: dict[str, Any], keys: Sequence[str]) -> Any:
    value: Any = record
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        dotted = f"{path}.{key}" if path else key
        found |= _flat(value, dotted) if isinstance(value, dict) else {dotted: value}
    return found


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
