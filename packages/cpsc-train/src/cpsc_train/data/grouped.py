"""Division of samples into parts by groups: all samples of a group are in one part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpsc_train.errors import UserError

Rows = NDArray[np.int64]


def draw_groups(
    groups: NDArray[np.str_], labels: NDArray[np.int64], fractions: Mapping[str, float], generator: np.random.Generator
) -> dict[str, Rows]:
    """Return the rows of each part, and of ``train`` for the rest.

    Groups are assigned from the largest to the smallest, those of one size in random order, each to the part whose
    number of rows of each class it brings closest to the wanted one. O(G · parts · classes). Raises UserError if a part
    remains empty, or no training row is of some class: there are too few groups.

    - `groups` and `labels`: (N,) group and class of each row.
    - `fractions`: by part, the fraction of the rows; from 1 on, their number.
    - `generator`: source of the order.

    Examples
    --------
    >>> groups, labels = np.repeat(list("abcdefghij"), 2), np.tile([0, 1], 10)
    >>> parts = draw_groups(groups, labels, {"test": 0.2}, np.random.default_rng(0))
    >>> {part: len(rows) for part, rows in parts.items()}
    {'test': 4, 'train': 16}
    """
    total = len(groups)
    wanted = {part: size if size < 1 else size / total for part, size in fractions.items()}
    wanted["train"] = 1 - sum(wanted.values())
    _, group_of = np.unique(groups, return_inverse=True)
    classes, class_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((group_of.max() + 1, len(classes)))
    np.add.at(counts, (group_of, class_of), 1)
    by_class = counts.sum(0)
    lacking = np.array(list(wanted.values()))[:, None] * np.ones(len(classes))  # fractions of each class, by part
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    part_of = np.empty(len(counts), dtype=np.int64)
    for group in order:
        share = counts[group] / by_class
        gain = ((lacking - share) ** 2 - lacking**2).sum(1)
        part_of[group] = np.argmin(gain)
        lacking[part_of[group]] -= share
    parts = {part: np.flatnonzero(part_of[group_of] == place) for place, part in enumerate(wanted)}
    for part, rows in parts.items():
        if not len(rows):
            raise UserError(f"too few groups to divide: of {len(counts)}, {part} has none")
    if len(np.unique(labels[parts["train"]])) < len(classes):
        raise UserError(f"too few groups to divide: of {len(counts)}, those for training lack a class")
    return parts
