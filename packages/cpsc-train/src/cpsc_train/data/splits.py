"""Train, calibration, validation, test: fixed, seeded, stratified, and saved by sample id."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.errors import UserError

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How the samples are divided; what the three shares leave is for training."""

    calibration: float = 0.1
    """Share that the conformal predictor is calibrated on; never trained on."""
    validation: float = 0.1
    """Share that selects the epoch."""
    test: float = 0.2
    """Share that is looked at once, at the end."""
    seed: int = 0
    """Seed of the division; kept apart from the seed of a run, so that runs are compared on the same rows."""

    def __post_init__(self) -> None:
        shares = {"calibration": self.calibration, "validation": self.validation, "test": self.test}
        for name, share in shares.items():
            if not 0 < share < 1:
                raise UserError(f"splits.{name} must lie in (0, 1), got {share}")
        if sum(shares.values()) >= 1:
            raise UserError(f"splits must leave a share for training, got {sum(shares.values()):g} for the other three")


@dataclass(frozen=True)
class Splits:
    """Row numbers of each part; disjoint, and together all rows."""

    train: Rows
    calibration: Rows
    validation: Rows
    test: Rows

    @property
    def sizes(self) -> dict[str, int]:
        """Number of rows of each part."""
        return {field.name: len(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def draw(cls, labels: NDArray[np.int64], config: SplitConfig) -> Splits:
        """Divide rows at random so that every part holds each class in the same proportion, to within one row.

        Parameters
        ----------
        labels
            (N,) class of each row.
        config
            Shares and seed.

        Raises
        ------
        UserError
            If a class has too few rows to appear in every part.

        Examples
        --------
        >>> Splits.draw(np.arange(100) % 2, SplitConfig()).sizes
        {'train': 60, 'calibration': 10, 'validation': 10, 'test': 20}
        """
        generator = np.random.default_rng(config.seed)
        parts: list[list[Rows]] = [[], [], [], []]
        for label in np.unique(labels):
            rows = generator.permutation(np.flatnonzero(labels == label))
            shares = np.array([config.calibration, config.validation, config.test])
            edges = np.rint(np.cumsum(shares) * len(rows)).astype(int)
            pieces = np.split(rows, edges)
            if min(len(piece) for piece in pieces) == 0:
                raise UserError(
                    f"class {label} has {len(rows)} rows: too few for train, calibration, validation and test"
                )
            for part, piece in zip(parts, pieces[3:] + pieces[:3], strict=True):
                part.append(piece)
        return cls(*(np.sort(np.concatenate(part)) for part in parts))

    def save(self, path: Path, dataset: Dataset) -> None:
        """Write the sample ids of each part as JSON."""
        named = {field.name: [dataset.ids[row] for row in getattr(self, field.name)] for field in fields(self)}
        path.write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path, dataset: Dataset) -> Splits:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file cannot be read, or names an id that `dataset` lacks or that stands in two parts.
        """
        try:
            named = json.loads(path.read_text(encoding="utf-8"))
            parts = {field.name: list(named[field.name]) for field in fields(cls)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is not a readable list of splits ({error!r})") from None
        row_of = {sample: row for row, sample in enumerate(dataset.ids)}
        seen: dict[str, str] = {}
        for part, ids in parts.items():
            for sample in ids:
                if sample not in row_of:
                    raise UserError(f"{path}: id {sample!r} of {part} is not in the data set")
                if sample in seen:
                    raise UserError(f"{path}: id {sample!r} is in both {seen[sample]} and {part}")
                seen[sample] = part
        return cls(*(np.array([row_of[sample] for sample in ids], dtype=np.int64) for ids in parts.values()))
