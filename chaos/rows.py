"""A million small rows through the whole pipeline: training, calibration, selection, test; memory must stay flat.

The memory of the process is read from outside. After the first epoch of each kind (warm-up, calibrated), the peak of an
epoch may rise by at most a tenth. About 15 minutes on two busy cores; half a minute with `--quick` (50,000 rows).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from _trials import COMMAND, Running, Trials, options, resident, workplace

VIEWS = {"mor": 6, "zer": 47}
EPOCHS = 5


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write rows of ten Gaussian classes in two views."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 10, rows)
    views = {}
    for name, width in VIEWS.items():
        centres = draw.normal(size=(10, width)).astype(np.float32)
        views[name] = centres[label] + draw.normal(size=(rows, width), scale=2).astype(np.float32)
    np.savez(path, label=label, **views)


def main() -> int:
    """Train, and watch the memory of the process."""
    asked = options(__doc__)
    rows, trials, largest = 50_000 if asked.quick else 1_000_000, Trials(), dict[int, float]()
    with workplace() as place:
        data, run = place / "rows.npz", place / "run"
        write_rows(data, rows, asked.seed)
        settings = [f"data.file={data}", "method.warmup=2", "batch_size=4096", "splits.calibration=20000"]
        settings = [word for one in (*settings, "optimizer.lr=0.01") for word in ("--set", one)]
        words = ["train", "-q", "--epochs", EPOCHS, "--modalities", "mor,zer", *settings, "--out", run]
        start, metrics = time.perf_counter(), run / "metrics.jsonl"
        running = Running([*COMMAND, *words], place / "log")
        while running.process.poll() is None:
            done = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
            largest[done] = max(largest.get(done, 0.0), resident(running.process.pid))
            time.sleep(0.1)
        code, last = running.process.returncode, running.last
    by_epoch = [largest.get(done, 0.0) for done in range(EPOCHS)]
    # Epoch 3 is the first with reliability, whose tensors are new. A leak of 100 bytes per row adds 100 MiB per epoch.
    flat = code == 0 and max(by_epoch[3:]) <= 1.1 * by_epoch[2]
    curve = ", ".join(f"{value:.0f}" for value in by_epoch)
    seconds = time.perf_counter() - start
    trials.row(f"{rows} rows", f"{seconds:.0f} s, peak MiB by epoch: {curve} {last if code else ''}", ok=flat)
    return trials.exit_code()


if __name__ == "__main__":
    sys.exit(main())
