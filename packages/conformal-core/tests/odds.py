"""A score of one's own, for tests of all packages that take scores."""

from dataclasses import dataclass

from conformal_core import ClassificationScore
from conformal_core.sets import take_label


@dataclass(frozen=True)
class Odds(ClassificationScore):
    """A score that defines nothing but what it must."""

    def compute(self, probs, labels, u):
        scores = (1 - probs) / (probs + 1e-12)
        return scores if labels is None else take_label(scores, labels)
