"""Writing of the division of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cpsc_train.data.dataset import DataConfig
from cpsc_train.data.splits import SplitConfig, Splits, by_group, rows_by_part
from cpsc_train.errors import UserError
from cpsc_train.writing import make_folder


def write_splits(
    config: DataConfig, splits: SplitConfig, out: Path, by: Literal["official", "speaker", "stratified"]
) -> Splits:
    """Divide a data set and write the ids of each part in the form of ``splits.file``.

    Parameters
    ----------
    config, splits
        The data set, and the fractions.
    out
        The file.
    by
        ``official``: as the data set defines, as far as it does; ``speaker``: no speaker in two of training, validation
        and test; ``stratified``: each class in the same proportion in all parts.

    Raises
    ------
    UserError
        If the data set has no speakers, or no division of its own; or the file cannot be written.
    """
    dataset = config.open()
    parts = dataset.parts
    if by == "official" and parts is None:
        raise UserError(f"{config.name}: has no official division here: use --by stratified")
    if by == "speaker":
        if dataset.groups is None:
            raise UserError(f"{config.name}: does not name the speaker of a sample: use --by stratified")
        parts = rows_by_part(by_group(list(dataset.groups), splits.seed))
    division = Splits.draw(dataset.labels, replace(splits, official=by != "stratified", file=None), parts)
    make_folder(out.parent)
    division.save(out, dataset)
    return division
