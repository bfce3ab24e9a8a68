"""Levels and rows for tests of what is issued, and a level that records what it is given."""

import numpy as np

from conformal_core import (
    ACI,
    SAOCP,
    ConformalPID,
    DecayingStep,
    DtACI,
)
from conformal_core.level.base import Level

LEVELS = {
    "aci": lambda: ACI(alpha=0.2, gamma=0.05),
    "dtaci": lambda: DtACI(alpha=0.2, window=50),
    "dtaci of one": lambda: DtACI(alpha=0.2, gammas=[0.05]),
    "decaying": lambda: DecayingStep(alpha=0.2, start=0.5, rate=0.5),
    "pid": lambda: ConformalPID(alpha=0.2, start=0.5, rate=0.05, integral=0.2),
    "saocp": lambda: SAOCP(alpha=0.2, scale=1.0, lifetime=2),
}


# Eighths and tenths: scores that are exact in every precision and scores that are not; many lie on a threshold.
POOL = np.asarray([[e / 8, 1 - e / 8] for e in range(9)] + [[e / 10, 1 - e / 10] for e in (1, 2, 3, 4, 6, 7, 8, 9)])


class Spy(Level):
    """A level that learns as another one does, and writes down what it was told."""

    def __init__(self, inner):
        self.inner, self.told = inner, []

    def threshold(self, memory, /):
        return self.inner.threshold(memory)

    def update(self, score, threshold, memory, /):
        self.told.append((score, float(threshold)))
        self.inner.update(score, threshold, memory)

    def calibrate(self, scores, /):
        self.inner.calibrate(scores)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)
