"""Train, calibration, validation, test: fixed, seeded, stratified, and saved by sample id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import Dataset
from cpsc_train.errors import UserError
from cpsc_train.reading import read_file
from cpsc_train.writing import write

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How the samples are divided; what the three shares leave is for training."""

    calibration: float = 0.1
    """Share that the conformal predictor is calibrated on, or their number from 1 on; never trained on."""
    validation: float = 0.1
    """Share that selects the epoch."""
    test: float = 0.2
    """Share that is looked at once, at the end."""
    official: bool = True
    """Whether parts that the data set itself names, such as its test rows, are taken as they are; the shares are then
    those of the rows that it leaves."""
    file: str | None = None
    """A file of sample ids by part, as ``cpsc data prepare NAME --splits FILE`` writes it, in place of all of this."""
    seed: int = 0
    """Seed of the division; kept apart from the seed of a run, so that runs are compared on the same rows."""

    def __post_init__(self) -> None:
        shares = {"validation": self.validation, "test": self.test}
        for name, share in shares.items():
            if not 0 < share < 1:
                raise UserError(f"splits.{name} must lie in (0, 1), got {share}")
        if self.calibration >= 1 and self.calibration == int(self.calibration):
            return
        if not 0 < self.calibration < 1:
            raise UserError(
                f"splits.calibration must lie in (0, 1), or be a whole number of rows, got {self.calibration}"
            )
        shares["calibration"] = self.calibration
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
    def of(cls, dataset: Dataset, config: SplitConfig) -> Splits:
        """Divide a data set: as a file says, as the data set itself says, and by the shares.

        Raises
        ------
        UserError
            As `load` and `draw`.
        """
        if config.file is not None:
            return cls.load(Path(config.file), dataset)
        return cls.draw(dataset.labels, config, dataset.parts)

    @classmethod
    def draw(cls, labels: NDArray[np.int64], config: SplitConfig, parts: Mapping[str, Rows] | None = None) -> Splits:
        """Divide rows at random so that every part holds each class in the same proportion, to within one row.

        Parameters
        ----------
        labels
            (N,) class of each row.
        config
            Shares and seed.
        parts
            The division that the data set itself names; parts it lacks are drawn from its training rows, or from the
            rows in no part.

        Raises
        ------
        UserError
            If a class has too few rows to appear in every part, or there are none.

        Examples
        --------
        >>> Splits.draw(np.arange(100) % 2, SplitConfig()).sizes
        {'train': 60, 'calibration': 10, 'validation': 10, 'test': 20}
        """
        given = dict(parts or {}) if config.official else {}
        fixed = {name: np.sort(rows) for name, rows in given.items() if name != "train"}
        named = np.concatenate([*fixed.values(), np.array([], dtype=np.int64)])
        rows = given.get("train", np.setdiff1d(np.arange(len(labels)), named))
        if not len(rows):
            raise UserError("there are no samples to train on")
        drawn = [name for name in ("calibration", "validation", "test") if name not in fixed]
        generator = np.random.default_rng(config.seed)
        by_class = [generator.permutation(rows[labels[rows] == label]) for label in np.unique(labels[rows])]
        taken: dict[str, list[Rows]] = {name: [] for name in drawn}
        if "calibration" in drawn and config.calibration >= 1:
            drawn.remove("calibration")
            by_class, counted = _take(by_class, int(config.calibration))
            taken["calibration"].append(counted)
        left: list[Rows] = []
        for members in by_class:
            edges = np.rint(np.cumsum([getattr(config, name) for name in drawn]) * len(members)).astype(int)
            pieces = np.split(members, edges)
            if min(len(piece) for piece in pieces) == 0:
                wanted = ", ".join(["train", *drawn[:-1]]) + f" and {drawn[-1]}"
                raise UserError(f"class {labels[members[0]]} has {len(members)} rows: too few for {wanted}")
            for name, piece in zip(drawn, pieces, strict=False):
                taken[name].append(piece)
            left.append(pieces[-1])
        found = fixed | {name: np.sort(np.concatenate(pieces)) for name, pieces in taken.items()}
        return cls(train=np.sort(np.concatenate(left)), **found)

    def save(self, path: Path, dataset: Dataset) -> None:
        """Write the sample ids of each part as JSON.

        Raises
        ------
        UserError
            If the file cannot be written, or is a link.
        """
        named = {field.name: [dataset.ids[row] for row in getattr(self, field.name)] for field in fields(self)}
        write(path, json.dumps(named, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, dataset: Dataset) -> Splits:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file cannot be read, or names an id that `dataset` lacks or that stands in two parts.
        """
        try:
            named = parse_json(read_file(path))
            parts = {field.name: list(named[field.name]) for field in fields(cls)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is not a readable list of splits ({error!r})") from None
        row_of = {sample: row for row, sample in enumerate(dataset.ids)}
        seen: dict[str, str] = {}
        for part, ids in parts.items():
            for sample in ids:
                if not isinstance(sample, str) or sample not in row_of:
                    raise UserError(f"{path}: id {sample!r} of {part} is not in the data set")
                if sample in seen:
                    raise UserError(f"{path}: id {sample!r} is in both {seen[sample]} and {part}")
                seen[sample] = part
        for part, ids in parts.items():
            if not ids:
                raise UserError(f"{path}: {part} lists nothing")
        return cls(*(np.array([row_of[sample] for sample in ids], dtype=np.int64) for ids in parts.values()))


def rows_by_part(names: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each part, given the part of each row."""
    held = np.array(names)
    return {str(part): np.flatnonzero(held == part) for part in dict.fromkeys(names)}


def by_group(groups: Sequence[str], seed: int) -> list[str]:
    """Return a part for each row, so that no group is in two: a fifth of the groups for test, a tenth for validation.

    Examples
    --------
    >>> by_group(["a", "a", "b"], seed=0).count("train") in (0, 1)
    True
    """
    order = np.random.default_rng(seed).permutation(sorted(set(groups)))
    tested, validated = -(-len(order) // 5), -(-len(order) // 10)
    part = dict.fromkeys(order[:tested], "test") | dict.fromkeys(order[tested : tested + validated], "validation")
    return [part.get(group, "train") for group in groups]


def _take(by_class: list[Rows], count: int) -> tuple[list[Rows], Rows]:
    """Take `count` rows, from each class in proportion; return what is left of each, and what was taken."""
    total = sum(map(len, by_class))
    if count >= total:
        raise UserError(f"splits.calibration must be less than the {total} rows there are, got {count}")
    edges = np.rint(np.cumsum([0, *map(len, by_class)]) * count / total).astype(int)
    counts = np.diff(edges)
    taken = np.concatenate([members[:n] for members, n in zip(by_class, counts, strict=True)])
    return [members[n:] for members, n in zip(by_class, counts, strict=True)], taken
