"""Running moments of rows in groups, and the Ledoit–Wolf estimate of their common covariance.

d: width, K: groups, G: K, or 1 if only the sum of the scatter matrices is kept.
"""

import math
from typing import Any, NamedTuple

from conformal_core._arrays import array_namespace, device, to_host
from conformal_core._precision import quietly

Array = Any

_LEAST = 1e-6  # shrinkage at which the Cholesky factor of a singular covariance still exists in double precision


class Moments(NamedTuple):
    """Sums over the rows c of each group, less the mean of the group."""

    counts: Array  # (K,)
    means: Array  # (K, d)
    scatter: Array  # (G, d, d): Σ c cᵀ
    cubes: Array | None = None  # (K, d): Σ ‖c‖² c; None if there is no Ledoit–Wolf estimate, as for `fourth`
    fourth: Array | None = None  # (): Σ ‖c‖⁴ over all groups


def moments(rows: Array, groups: Array, count: int, *, fourth: bool) -> Moments:
    """Return the moments of rows (N, d) in groups (N,) of 0..K − 1, with scatter matrices of each if ``fourth``."""
    xp = array_namespace(rows=rows)
    member = xp.astype(groups[:, None] == xp.arange(count, dtype=xp.int64, device=device(rows)), xp.float64)
    counts = xp.sum(member, axis=0)
    means = (xp.matrix_transpose(member) @ rows) / xp.where(counts > 0, counts, xp.ones_like(counts))[:, None]
    apart = rows - xp.take(means, groups, axis=0)
    if not fourth:
        return Moments(counts, means, (xp.matrix_transpose(apart) @ apart)[None, ...])
    with quietly(rows):  # fourth powers overflow long before squares
        squares = xp.sum(apart * apart, axis=-1)
        cubes = xp.matrix_transpose(member) @ (squares[:, None] * apart)
        return Moments(counts, means, _scatters(apart, groups, counts), cubes, xp.sum(squares * squares))


def merged(one: Moments, other: Moments) -> Moments:
    """Return the moments of the rows of both, by the update of Chan, Golub and LeVeque (1983)."""
    xp = array_namespace(one=one.means, other=other.means)
    both = one.counts + other.counts
    fraction = (other.counts / xp.where(both > 0, both, xp.ones_like(both)))[:, None]
    shift = other.means - one.means
    with quietly(shift):
        one, other = _moved(one, fraction * shift), _moved(other, (fraction - 1.0) * shift)
        sums = [None if a is None or b is None else a + b for a, b in zip(one[2:], other[2:], strict=True)]
    return Moments(both, one.means, *sums)


def covariance(sums: Moments, shrinkage: float | None) -> Array:
    """Return (1 − s) Σ + s tr(Σ)/d · I (d, d) for the common covariance Σ; s is that of Ledoit and Wolf if None."""
    xp = array_namespace(scatter=sums.scatter)
    scatter, count = xp.sum(sums.scatter, axis=0), xp.sum(sums.counts)
    width, level = scatter.shape[0], xp.linalg.trace(scatter)
    part = ledoit_wolf(sums) if shrinkage is None else shrinkage
    identity = xp.eye(width, dtype=xp.float64, device=device(scatter))
    return ((1.0 - part) * scatter + part * (level / width) * identity) / count


def ledoit_wolf(sums: Moments) -> Array:
    """Return the shrinkage () in [1e-6, 1] that Ledoit and Wolf (2004) estimate from the rows of all groups."""
    xp = array_namespace(scatter=sums.scatter)
    scatter, count = xp.sum(sums.scatter, axis=0), xp.sum(sums.counts)
    total = xp.linalg.trace(scatter)
    unit = xp.where(total > 0, total, xp.ones_like(total))
    with quietly(scatter):
        squares = xp.sum((scatter / unit) ** 2)
        error, distance = sums.fourth / unit / unit - squares / count, squares - 1.0 / scatter.shape[0]
        part = error / xp.where(distance > 0, distance, xp.ones_like(distance))
    least, one = xp.full_like(part, _LEAST), xp.ones_like(part)
    part = xp.where(part > _LEAST, part, least)
    return xp.where(part < 1, part, one)


def _moved(sums: Moments, offset: Array) -> Moments:
    """Return the sums of rows about the means plus an offset (K, d)."""
    xp = array_namespace(means=sums.means)
    counts, means, scatter, cubes, fourth = sums
    if cubes is not None:
        squares = xp.sum(offset * offset, axis=-1)
        pushed = (scatter @ offset[..., None])[..., 0]
        trace = xp.linalg.trace(scatter)
        terms = 4.0 * offset * (pushed - cubes)
        fourth = fourth + xp.sum(xp.sum(terms, axis=-1) + (counts * squares + 2.0 * trace) * squares)
        cubes = cubes - 2.0 * pushed - (trace + counts * squares)[:, None] * offset
    weighted = counts[:, None] * offset
    if scatter.shape[0] == counts.shape[0]:
        scatter = scatter + weighted[:, :, None] * offset[:, None, :]
    else:
        scatter = scatter + (xp.matrix_transpose(weighted) @ offset)[None, ...]
    return Moments(counts, means + offset, scatter, cubes, fourth)


def _scatters(apart: Array, groups: Array, counts: Array) -> Array:
    """Return the scatter matrix of every group, (K, d, d)."""
    xp = array_namespace(apart=apart)
    if counts.shape[0] == 1:
        return (xp.matrix_transpose(apart) @ apart)[None, ...]
    ordered, matrices, end = xp.take(apart, xp.argsort(groups), axis=0), [], 0
    for count in to_host(counts).tolist():
        start, end = end, end + math.floor(count)
        matrices.append(xp.matrix_transpose(ordered[start:end, :]) @ ordered[start:end, :])
    return xp.stack(matrices)
