"""Files of a run that do not hold what a run writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cpsc_train.errors import UserError, reason


@contextmanager
def written_by_a_run(folders: Iterable[Path]) -> Iterator[None]:
    """Raise UserError in place of an error from unexpected content of the files in run folders."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        where = ", ".join(str(folder) for folder in folders)
        raise UserError(
            f"{where}: a file does not hold what a run writes ({reason(error)}): restore it, or evaluate the run again"
        ) from error
