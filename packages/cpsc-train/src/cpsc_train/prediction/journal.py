"""Finished rows of a prediction, from which it is resumed after an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cpsc_train.config import parse_json
from cpsc_train.errors import UserError
from cpsc_train.prediction.formats import Row
from cpsc_train.writing import appending, cut, write


class Journal:
    """Finished rows of a prediction, as JSON lines in ``OUT.unfinished``.

    - `out`: file of predictions that the rows are for.
    - `of`: what the rows depend on: model, variant and inputs. A journal of others is refused.
    """

    def __init__(self, out: Path, of: dict[str, Any]) -> None:
        self.path = out.with_name(f"{out.name}.unfinished")
        self._of = json.loads(json.dumps(of))

    def start(self) -> None:
        """Start without rows. Raises UserError if there are rows of an interrupted prediction."""
        if self.path.exists():
            raise UserError(
                f"{self.path}: holds the rows of an interrupted prediction: continue it with --resume, or remove it"
            )
        write(self.path, json.dumps(self._of) + "\n")

    def resume(self) -> Iterator[Row]:
        """Yield the rows in the file, then remove an incomplete last one; start the file if there is none.

        Raises
        ------
        UserError
            If it belongs to other inputs or another model, or is damaged.
        """
        size = 0
        for number, line in enumerate(self._lines()):
            if not line.endswith(b"\n"):
                break
            content = self._parsed(line, number)
            if number:
                yield content
            elif content != self._of:
                raise UserError(
                    f"{self.path}: belongs to other inputs or another model: remove it, or choose another --out"
                )
            size += len(line)
        if size:
            cut(self.path, size)
        else:
            write(self.path, json.dumps(self._of) + "\n")

    def open(self) -> IO[str]:
        """Open the file to append rows."""
        return appending(self.path)

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        return (self._parsed(line, number) for number, line in enumerate(self._lines()) if number)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink()

    def _lines(self) -> Iterator[bytes]:
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from file

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            return dict(parse_json(line))
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.path}: line {number} is damaged ({error}): remove the file") from None
