"""Division into training, calibration, validation and test: seeded, stratified, and saved by sample id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.grouped import draw_groups
from cpsc_train.data.saved_splits import read_parts, write_parts
from cpsc_train.errors import UserError

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Fractions of the samples for each part; the rest is for training."""

    calibration: float = 0.1
    """Fraction, or from 1 on number, of the rows that calibrate the conformal predictor; never trained on."""
    validation: float = 0.1
    """Fraction that selects the epoch."""
    test: float = 0.2
    """Fraction that is evaluated once, at the end."""
    official: bool = True
    """Whether the data set's own parts, such as its test rows, are kept; the fractions then apply to its other rows."""
    file: str | None = None
    """A file of sample ids by part, as written by ``cpsc data prepare NAME --splits FILE``, or ``splits.npz`` of a run;
    replaces all of this."""
    seed: int = 0
    """Seed of the division, separate from that of a run, so that runs are compared on the same rows."""

    def __post_init__(self) -> None:
        fractions = {"validation": self.validation, "test": self.test}
        for name, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise UserError(f"splits.{name} must lie in (0, 1), got {fraction}")
        if self.calibration >= 1 and self.calibration == int(self.calibration):
            return
        if not 0 < self.calibration < 1:
            raise UserError(
                f"splits.calibration must lie in (0, 1), or be a whole number of rows, got {self.calibration}"
            )
        fractions["calibration"] = self.calibration
        if (total := sum(fractions.values())) >= 1:
            raise UserError(f"splits must leave a fraction for training, got {total:g} for the other three")


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
        """Divide a data set by the file, its official parts, and the fractions.

        Raises
        ------
        UserError
            As `load` and `draw`.
        """
        if config.file is not None:
            return cls.load(Path(config.file), dataset)
        groups = dataset.groups if dataset.indivisible else None
        return cls.draw(dataset.labels, config, dataset.parts, groups=groups, classes=dataset.classes)

    @classmethod
    def draw(
        cls,
        labels: NDArray[np.int64],
        config: SplitConfig,
        parts: Mapping[str, Rows] | None = None,
        *,
        groups: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ) -> Splits:
        """Divide rows at random so that every part holds each class in the same proportion, to within one row.

        Parameters
        ----------
        labels
            (N,) class of each row.
        config
            Fractions and seed.
        parts
            The official division; missing parts are drawn from its training rows, or from the rows in no part.
        groups
            (N,) group of each row. All rows of a group are then in one part, as `draw_groups` divides them.
        classes
            Class names, for error messages.

        Raises
        ------
        UserError
            If a class has too few rows for every part, or there are none.

        Examples
        --------
        >>> Splits.draw(np.arange(100) % 2, SplitConfig()).sizes
        {'train': 60, 'calibration': 10, 'validation': 10, 'test': 20}
        """
        official = dict(parts or {}) if config.official else {}
        fixed = {name: np.sort(rows) for name, rows in official.items() if name != "train"}
        named = np.concatenate([*fixed.values(), np.array([], dtype=np.int64)])
        rows = official.get("train", np.setdiff1d(np.arange(len(labels)), named))
        if not len(rows):
            raise UserError("there are no samples to train on")
        drawn = [name for name in ("calibration", "validation", "test") if name not in fixed]
        generator = np.random.default_rng(config.seed)
        if groups is not None and drawn:
            fractions = {name: getattr(config, name) for name in drawn}
            divided = draw_groups(np.array(groups)[rows], labels[rows], fractions, generator)
            return cls(**fixed, **{part: rows[places] for part, places in divided.items()})
        numbers = np.unique(labels[rows])
        by_class = [generator.permutation(rows[labels[rows] == number]) for number in numbers]
        taken: dict[str, list[Rows]] = {name: [] for name in drawn}
        if "calibration" in drawn and config.calibration >= 1:
            drawn.remove("calibration")
            by_class, counted = _take(by_class, int(config.calibration))
            taken["calibration"].append(counted)
        left: list[Rows] = []
        for number, members in zip(numbers, by_class, strict=True):
            edges = np.rint(np.cumsum([getattr(config, name) for name in drawn]) * len(members)).astype(int)
            pieces = np.split(members, edges)
            if min(len(piece) for piece in pieces) == 0:
                *others, last = taken
                wanted = ", ".join(["train", *others]) + f" and {last}"
                name, count = classes[number] if classes else number, int((labels[rows] == number).sum())
                raise UserError(
                    f"class {name} has {count} row{'s' * (count != 1)}: too few for {wanted}: add rows, or leave the "
                    "class out"
                )
            for name, piece in zip(drawn, pieces, strict=False):
                taken[name].append(piece)
            left.append(pieces[-1])
        drawn_rows = {name: np.sort(np.concatenate(pieces)) for name, pieces in taken.items()}
        return cls(train=np.sort(np.concatenate(left)), **fixed, **drawn_rows)

    def save(self, path: Path, dataset: Dataset) -> None:
        """Write the division: in arrays if `path` ends in ``.npz``, else the sample ids of each part as JSON.

        Raises
        ------
        UserError
            If the file cannot be written, or is a link.
        """
        write_parts(path, vars(self), dataset.ids)

    @classmethod
    def load(cls, path: Path, dataset: Dataset) -> Splits:
        """Read a division written by `save`, by sample id.

        Raises
        ------
        UserError
            If the file cannot be read, has an empty part, or an id that `dataset` lacks or that is in two parts.
        """
        return cls(**read_parts(path, [field.name for field in fields(cls)], dataset.ids))


def rows_by_part(names: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each part, given the part of each row."""
    parts = np.array(names)
    return {str(part): np.flatnonzero(parts == part) for part in dict.fromkeys(names)}


def by_group(groups: Sequence[str], seed: int) -> list[str]:
    """Return a part for each row, with no group in two: a fifth of the groups for test, a tenth for validation.

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
    """Take `count` rows from all classes in proportion; return the rows left of each class, and those taken."""
    total = sum(map(len, by_class))
    if count >= total:
        raise UserError(f"splits.calibration must be less than the {total} rows there are, got {count}")
    edges = np.rint(np.cumsum([0, *map(len, by_class)]) * count / total).astype(int)
    counts = np.diff(edges)
    taken = np.concatenate([members[:n] for members, n in zip(by_class, counts, strict=True)])
    return [members[n:] for members, n in zip(by_class, counts, strict=True)], taken
