"""The definitions once more, in exact arithmetic and plain Python: slow, short and independent of the package."""

from fractions import Fraction
from math import ceil, inf


def exact(value) -> Fraction:
    return Fraction(float(value))


def decimal(alpha) -> Fraction:
    return Fraction(str(alpha))


def rank(n, alpha):
    k = ceil((n + 1) * (1 - decimal(alpha)))
    return k if k <= n else None


def quantile(scores, alpha):
    k = rank(len(scores), alpha)
    return inf if k is None else sorted(scores)[k - 1]


def p_value(calibration, score, u=None):
    n = len(calibration)
    if u is None:
        return Fraction(sum(c >= score for c in calibration) + 1, n + 1)
    above = sum(c > score for c in calibration)
    return (above + exact(u) * (sum(c == score for c in calibration) + 1)) / (n + 1)


def reliability(scores, label, qhat, kind):
    if scores[label] > qhat:
        return Fraction(0)
    smaller = sum(s < scores[label] for s in scores)
    if kind == "reciprocal":
        return Fraction(1, smaller + 1)
    return 1 - Fraction(smaller, sum(s <= qhat for s in scores))


def lac(row, label, u=None):
    return 1 - exact(row[label])


def margin(row, label, u=None):
    others = [exact(p) for j, p in enumerate(row) if j != label]
    return (max(others) if others else Fraction(0)) - exact(row[label])


def aps(row, label, u=None, penalty=0.0, free_ranks=0):
    """Mass at least as probable, relative to the row's; 2 for a label without mass."""
    p = [exact(x) for x in row]
    own, total = p[label], sum(p)
    deep = max(0, sum(x >= own for x in p) - free_ranks) * exact(penalty)
    if own == 0:
        return 2 + deep
    better, tied = sum(x for x in p if x > own), sum(x for x in p if x == own)
    return (better + tied * (1 if u is None else exact(u))) / total + deep


def saps(row, label, u=None, weight=0.2):
    p, u = [exact(x) for x in row], 1 if u is None else exact(u)
    better = sum(x > p[label] for x in p)
    return max(p) * u if better == 0 else max(p) + (better - 1 + u) * exact(weight)


def weighted_quantile(scores, weights, test_weight, alpha):
    wanted = (1 - decimal(alpha)) * (sum(map(exact, weights)) + exact(test_weight))
    mass = Fraction(0)
    for score, weight in sorted(zip(scores, weights, strict=True)):
        mass += exact(weight)
        if mass >= wanted:
            return score
    return inf
