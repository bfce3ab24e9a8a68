"""Coverage on a stream from an unknown speaker, row by row: what the picture of docs/beyond/shift.md is drawn from.

    python studies/stream.py --root data/av-digits --out runs/stream

Trains once, if the run is not in the folder, and writes the coverage of the last 100 rows by head and predictor.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

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
    parser.add_argument("--root", required=True, help="where the av-digits data lie")
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
    with (given.out / "speaker.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["head", "predictor", "row", "coverage"])
        for head in coming.probabilities:
            for name, one in follow(calibration, coming, head, alpha=alpha, ratios=None).items():
                covered = np.asarray(rolling_coverage(one.hits, window=WINDOW))
                for row in range(WINDOW - 1, len(covered), EVERY):
                    writer.writerow([head, name, row + 1, f"{covered[row]:.3g}"])
                print(f"{head} {name}: {one.hits.mean():.3f}, {one.sizes.mean():.2f} classes a set")


if __name__ == "__main__":
    main()
