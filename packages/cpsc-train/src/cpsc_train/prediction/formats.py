"""Files of predictions: CSV, JSON lines and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cpsc_train.errors import UserError, needs
from cpsc_train.prediction.model import Model
from cpsc_train.writing import as_csv, replacing

Row = dict[str, Any]
"""Row of a sample: ``id``, ``class``, ``set``, ``missing``, ``trust``, ``probabilities`` and ``error``."""
CHUNK = 8192
"""Rows converted at once."""


def check_format(out: Path) -> None:
    """Check that the suffix of a file is among `FORMATS`, and that the package that writes it is installed.

    Raises UserError if the suffix is another, or the package is missing.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out must end in {', '.join(FORMATS)}, got {out.name!r}")
    if out.suffix == ".parquet":
        with needs("pyarrow", extra="parquet"):
            import pyarrow.parquet  # noqa: F401, PLC0415  # an extra


def as_line(row: Row) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(row) + "\n"


def _write_jsonl(out: Path, rows: Callable[[], Iterator[Row]], _model: Model) -> None:
    with replacing(out) as file:
        file.writelines(as_line(row).encode() for row in rows())


def _write_csv(out: Path, rows: Callable[[], Iterator[Row]], model: Model) -> None:
    with replacing(out) as file:
        file.write(as_csv([_names(model)]).encode())
        for some in _chunks(rows()):
            table = [[json.dumps(one) if isinstance(one, list) else one for one in _flat(row, model)] for row in some]
            file.write(as_csv(table).encode("utf-8", "backslashreplace"))


def _write_parquet(out: Path, rows: Callable[[], Iterator[Row]], model: Model) -> None:
    import pyarrow as pa  # noqa: PLC0415  # an extra, checked by check_format
    from pyarrow import parquet  # noqa: PLC0415

    kinds = {"set": pa.list_(pa.string()), "missing": pa.list_(pa.string())}
    kinds |= dict.fromkeys(("id", "class", "error"), pa.string())
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in _names(model)])
    with replacing(out) as file, parquet.ParquetWriter(file, schema) as writer:
        for some in _chunks(rows()):
            columns = zip(*(_flat(row, model) for row in some), strict=True)
            arrays = [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _names(model: Model) -> list[str]:
    trust = [f"trust_{m}" for m in model.modalities]
    return ["id", "class", "set", "missing", *trust, *(f"p_{name}" for name in model.classes), "error"]


def _flat(row: Row, model: Model) -> list[Any]:
    trust, probabilities = row["trust"] or {}, row["probabilities"] or {}
    return [
        *(row[name] for name in ("id", "class", "set", "missing")),
        *(trust.get(m) for m in model.modalities),
        *(probabilities.get(name) for name in model.classes),
        row["error"],
    ]


def _chunks(rows: Iterator[Row]) -> Iterator[Sequence[Row]]:
    while some := list(islice(rows, CHUNK)):
        yield some


FORMATS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
"""By suffix, the function that writes predictions."""
