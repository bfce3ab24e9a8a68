"""Memory and time of what a data set holds for each row: ids, splits, and the index of packed files.

    python benchmarks/data/rows.py                    10⁶ rows
    python benchmarks/data/rows.py 1000000 10000000

For each step: seconds of the CPU, memory that its result takes, and the largest on the way. Needs Linux with glibc.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpsc_train.data import Dataset, SplitConfig, Splits
from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.data.storage.index import Index
from cpsc_train.data.storage.packed import INDEX, open_packed
from cpsc_train.data.strings import StringArray

SAMPLES, SIZE = 256, 20_000
"""Files in a tar file, and their bytes."""


class Used(NamedTuple):
    """Seconds, MiB kept, largest MiB, and megabytes of the file."""

    seconds: float
    kept: float | None = None
    largest: float | None = None
    file: float | None = None


def measured(job: Callable[[], Any], file: Path) -> tuple[Any, Used]:
    """Return what `job` returns, and what it used; `file` is the one that it writes or reads."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory of earlier steps is not used again, but counted
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the largest memory is now the current one
    before, started = _memory("VmRSS"), time.process_time()
    result = job()
    seconds = time.process_time() - started
    kept, largest = (_memory(kind) - before for kind in ("VmRSS", "VmHWM"))
    return result, Used(seconds, kept, largest, file.stat().st_size / 1e6)


def _memory(kind: str) -> float:
    """Return the memory of this process in MiB: ``VmRSS``, or the largest, ``VmHWM``."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def timed(job: Callable[[], Any]) -> float:
    """Return the seconds of the CPU that `job` takes."""
    started = time.process_time()
    job()
    return time.process_time() - started


class Rows(Dataset):
    """Rows that have an id and a label."""

    def __init__(self, ids: StringArray) -> None:
        self.ids, self.labels = ids, np.arange(len(ids)) % 10

    def read(self, modality, rows, /):
        raise NotImplementedError


def path(row: int) -> str:
    """Return the path of the file of a row, one of 10,000 in a folder."""
    return f"images/{row // 10_000:04d}/{row:08d}.jpg"


def index(rows: int, folder: Path) -> dict[str, Used]:
    """Join the indices of all tar files, and write the index."""
    numbers = (range(first, min(first + SAMPLES, rows)) for first in range(0, rows, SAMPLES))
    parts = [
        Index.of(f"samples-{place:05d}.tar", {path(n): (n % SAMPLES * (SIZE + 480), SIZE, n) for n in some})
        for place, some in enumerate(numbers)
    ]

    def write() -> None:
        with (folder / INDEX).open("wb") as file:
            Index.merged(parts).write(file)

    return {"index: write": measured(write, folder / INDEX)[1]}


def packed(rows: int, folder: Path) -> dict[str, Used]:
    """Open the index, find files, and list folders."""
    root, opening = measured(lambda: open_packed(str(folder)), folder / INDEX)
    some = [path(n) for n in np.random.default_rng(0).integers(0, rows, 100_000).tolist()]
    finding = timed(lambda: all((root / one).is_file() for one in some))
    listing = timed(lambda: sum(1 for place in (root / "images").iterdir() for _ in place.iterdir()))
    return {
        "index: open": opening,
        "index: find 10⁵ files": Used(finding),
        "index: list all folders": Used(listing),
    }


def splits(rows: int, folder: Path) -> dict[str, Used]:
    """Save and load a division."""
    dataset = Rows(StringArray.numbered(rows))
    division, file = Splits.draw(dataset.labels, SplitConfig()), folder / "splits.npz"
    _, saving = measured(lambda: division.save(file, dataset), file)
    _, loading = measured(lambda: Splits.load(file, dataset), file)
    moved = Rows(dataset.ids[::-1])
    _, matching = measured(lambda: Splits.load(file, moved), file)
    return {"splits: save": saving, "splits: load": loading, "splits: load, rows in another order": matching}


def arrays(rows: int, folder: Path) -> dict[str, Used]:
    """Open arrays of two views, whose ids have eight characters."""
    view, file = np.zeros((rows, 2), np.float32), folder / "arrays.npz"
    texts = np.array([f"{n:08d}" for n in range(rows)])
    np.savez(file, id=texts, label=np.arange(rows) % 10, left=view, right=view)
    del view
    return {
        "arrays: open": measured(lambda: ArraysConfig(root=str(file)).open(), file)[1],
        "ids: as a StringArray": measured(lambda: StringArray.of(map(str, texts)), file)[1],
        "ids: as a list of str": measured(lambda: list(map(str, texts)), file)[1],
    }


def main() -> None:
    """Print a table."""
    print("rows | step | s | MiB kept | largest MiB | MB of the file")
    for rows in map(int, sys.argv[1:] or ["1000000"]):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "warmup").mkdir()
            for step in (index, packed, splits, arrays):
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    process.submit(step, 1000, Path(folder) / "warmup").result()  # imports what the step needs
                    steps = process.submit(step, rows, Path(folder)).result()
                for name, used in steps.items():
                    cells = ["–" if number is None else f"{number:.4g}" for number in used]
                    print(" | ".join([f"{rows:,}", name, *cells]), flush=True)


if __name__ == "__main__":
    main()
