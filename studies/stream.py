"""Coverage on a stream from an unknown speaker, row by row: the data of the figure of docs/beyond/shift.md.

    python studies/stream.py --root data/av-digits --out runs/stream

Trains a run if the folder has none, and writes the coverage of the last 100 rows by head and predictor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _tables import write_csv

from conformal_core import rolling_coverage
from cpsc_train import train
from cpsc_train.config import apply_settings
from cpsc_train.experiments.predictors import follow
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder
from cpsc_train.training.run import opened

WINDOW, EVERY = 100, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the av-digits data")
    parser.add_argument("--method", default="joint-unimodal")
    parser.add_argument("--out", type=Path, default=Path("runs/stream"))
    given = parser.parse_args()
    run = RunFolder(given.out / f"speaker-{given.method}-0")
    if run.read_results() is None:
        changes = [f"data.root={given.root}", f"method.name={given.method}", "data.split=speaker"]
        train(apply_settings(recipe("av-digits"), changes), run)
    with opened(run) as (setup, evaluator):
        calibration, coming = (evaluator.collect(part) for part in ("calibration", "test"))
    alpha = setup.config.conformal.alpha
    lines = []
    for head in coming.probabilities:
        for name, one in follow(calibration, coming, head, alpha=alpha, ratios=None).items():
            covered = np.asarray(rolling_coverage(one.hits, window=WINDOW))
            lines += [[head, name, row + 1, f"{covered[row]:.3g}"] for row in range(WINDOW - 1, len(covered), EVERY)]
            print(f"{head} {name}: {one.hits.mean():.3f}, {one.sizes.mean():.2f} classes per set")
    write_csv(given.out / "speaker.csv", ["head", "predictor", "row", "coverage"], lines)


if __name__ == "__main__":
    main()
