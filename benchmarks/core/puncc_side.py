"""LAC and APS of puncc, and plain numpy, on the data of run.py, which runs this in the environment of puncc."""

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from deel.puncc.api.prediction import BasePredictor
from deel.puncc.classification import APS, LAC

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians


def data(rows, seed, classes=100):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), size=rows).astype(np.float32)
    return probs, rng.integers(0, classes, rows)


class Given(BasePredictor):
    def __init__(self):
        super().__init__(model=None, is_trained=True)

    def predict(self, X, **_):
        return X

    def copy(self):
        return self


def main():
    (calibration, labels), (test, _) = data(10_000, 0), data(100_000, 1)

    def plain():
        scores = 1 - calibration[np.arange(len(labels)), labels]
        return (1 - test) <= np.partition(scores, 9000)[9000]

    def job(kind, **options):
        predictor = kind(Given(), train=False, **options)
        predictor.fit(X_calib=calibration, y_calib=labels)
        return predictor.predict(test, alpha=0.1)

    jobs = {"plain numpy": plain, "puncc LAC": lambda: job(LAC), "puncc APS": lambda: job(APS, rand=False)}
    print(json.dumps({"version": importlib.metadata.version("puncc"), **medians(jobs, 3)}))


if __name__ == "__main__":
    main()
