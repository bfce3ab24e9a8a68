"""Memories, predictors and novelty scores of conformal-core on arrays of any library, dtype, shape and value."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conformal_core as cc
import fuzzing as d
import reference
from fuzzing import EPS, Case, valid_alpha, valid_labels, valid_rows

MEMORIES = {
    "Fixed": cc.Fixed,
    "History": cc.History,
    "Window": lambda: cc.Window(5),
    "Reservoir": lambda: cc.Reservoir(10_000),
}


def a_memory(name: str) -> Callable[[Any], Case]:
    def build(draw: Any) -> Case:
        lib = d.library(draw)
        parts = [d.numbers(draw, lib, d.shape(draw, 2)) for _ in range(draw(st.integers(1, 3)))]
        if draw(st.booleans()):
            parts = [d.Drawn(lib, p.values.real, parts[0].dtype) for p in parts]
        level = draw(
            st.sampled_from([Fraction(1, 4), Fraction(-1, 2), Fraction(0), Fraction(1), Fraction(2), Fraction(1, 10)])
        )

        def call() -> Any:
            memory = MEMORIES[name]()
            for part in parts:
                memory.extend(part.array)
            value = memory.quantile(level)
            return float(value)

        want = None
        if all(p.numeric for p in parts):
            with np.errstate(all="ignore"):
                past = [s for p in parts for s in p.values.reshape(-1).tolist()]
            past = sorted(past[-5:] if name == "Window" else past)
            k = -((-(len(past) + 1) * (1 - level)) // 1)
            want = np.asarray(np.inf if k > len(past) else -np.inf if k < 1 else past[int(k) - 1])
        mixed = name == "Fixed" and len({p.dtype for p in parts}) > 1
        return Case("scores", call, want, np.inf if mixed else 0)

    return build


def _rounded(qhat: float, like: d.Drawn) -> float:
    """Return a threshold in the precision of an array."""
    return float(d.Drawn(like.library, np.asarray(qhat), like.dtype if like.floating else "float64").values)


def a_split(draw: Any) -> Case:
    """Calibrate, predict; sets are those of the definition, on the scores of the same library."""
    lib, n, k = d.library(draw), draw(d.SIZES), draw(st.integers(1, 5))
    probs, labels, new = d.rows(draw, lib, (n, k)), d.labels(draw, lib, (n,), k), d.rows(draw, lib, (3, k))
    alpha = d.alpha(draw)
    kind = draw(st.sampled_from(["SplitClassifier", "OnlineClassifier"]))

    def call() -> Any:
        predictor = getattr(cc, kind)(cc.LAC(), alpha=alpha)
        predictor.calibrate(probs.array, labels.array)
        return predictor.predict(new.array)

    ok = valid_alpha(alpha) and valid_labels(labels, k)
    ok = ok and valid_rows(probs) and valid_rows(new)
    want = None
    if ok:
        lac = cc.LAC()
        own = d.to_numpy(lac(probs.array, labels.array))
        q = reference.quantile(own.tolist(), alpha)
        want = (d.to_numpy(lac(new.array)) <= _rounded(q, new)).astype(float)
    return Case("probs labels alpha", call, want, 0)


def a_group(draw: Any) -> Case:
    """Thresholds of groups: each set is that of the rows of its group."""
    lib, n, k = d.library(draw), draw(d.SIZES), draw(st.integers(1, 4))
    probs, labels, new = d.rows(draw, lib, (n, k)), d.labels(draw, lib, (n,), k), d.rows(draw, lib, (3, k))
    groups, new_groups = d.labels(draw, lib, (n,), 2), d.labels(draw, lib, (3,), 2)
    alpha = d.alpha(draw)

    def call() -> Any:
        predictor = cc.Mondrian(cc.SplitClassifier(cc.LAC(), alpha=alpha))
        predictor.calibrate(probs.array, labels.array, groups=groups.array)
        return predictor.predict(new.array, groups=new_groups.array)

    ok = valid_alpha(alpha) and valid_labels(labels, k) and (groups.integral or not n) and new_groups.integral
    ok = ok and valid_rows(probs) and valid_rows(new)
    want = None
    if ok:
        own, scores = d.to_numpy(cc.LAC()(probs.array, labels.array)), d.to_numpy(cc.LAC()(new.array))
        qhats = [reference.quantile(own[groups.values == group].tolist(), alpha) for group in new_groups.values]
        # Thresholds are kept in the dtype of the calibration rows, and compared in that of the new ones.
        rounded = [_rounded(_rounded(q, probs), new) for q in qhats]
        want = (scores <= np.asarray(rounded)[:, None]).astype(float)
    return Case("probs labels alpha groups", call, want, 0)


def a_novelty(draw: Any) -> Case:
    """Distances are those of the definition, in double precision and for numbers of common size."""
    lib, n, width = d.library(draw), draw(d.SIZES), draw(st.integers(1, 4))
    classes = draw(st.sampled_from([2, None]))
    rows, new = d.numbers(draw, lib, (n, width)), d.numbers(draw, lib, (3, width))
    labels = d.labels(draw, lib, (n,), 2)

    def call() -> Any:
        score = cc.Mahalanobis(classes=classes, shrinkage=1e-3)
        score.update(rows.array, labels.array)
        return score(new.array)

    ok = n > 0 and rows.numeric and new.numeric and (classes is None or valid_labels(labels, 2))
    want, off = None, np.inf
    if ok:
        plain = all(x.dtype == "float64" and (np.abs(x.values) < 1e3).all() for x in (rows, new))
        off = -1e-6 if plain and rows.values.std(0).min() > 1e-3 else np.inf
        want = _distances(rows.values, np.zeros(n) if classes is None else labels.values, new.values)
    return Case("features labels Mahalanobis", call, want, off)


def _distances(rows: np.ndarray, groups: np.ndarray, new: np.ndarray) -> np.ndarray:
    means = {group: rows[groups == group].mean(0) for group in np.unique(groups)}
    apart = rows - np.stack([means[group] for group in groups])
    covariance = apart.T @ apart / len(rows)
    level = np.trace(covariance) / len(covariance)
    covariance = 0.999 * covariance + (1e-3 * level + 1e-150) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    return np.min([np.einsum("nd,de,ne->n", new - m, inverse, new - m) for m in means.values()], 0)


def a_weight(draw: Any) -> Case:
    """Weights of a gate: 1 up to the threshold q̂, and q̂ / distance beyond."""
    lib = d.library(draw)
    known, new, alpha = d.numbers(draw, lib, d.shape(draw, 1), signed=False), d.numbers(draw, lib, (3,)), d.alpha(draw)
    if known.real and not known.numeric:  # the score must refuse these, and the gate trusts it
        known = d.Drawn(lib, np.zeros(3), known.dtype)

    def call() -> Any:
        gate = cc.NoveltyGate(lambda scores, check=None: scores, alpha=alpha)
        gate.calibrate(known.array, check=True)
        return gate.weights(new.array)

    want, ok = None, valid_alpha(alpha) and known.numeric and (known.values >= 0).all() and new.real
    if ok:
        q = reference.quantile(known.values.reshape(-1).tolist(), alpha)
        with np.errstate(all="ignore"):
            want = np.where(new.values <= q, 1.0, q / new.values)
        want = np.where(np.isnan(new.values), np.nan, want)
    # A score is lowered by 16 units in its last place before it is compared.
    return Case("scores alpha features distances", call, want, max(2e-2, 20 * EPS.get(new.dtype, 0)))


TARGETS = {
    **{f"{name}.extend, quantile": a_memory(name) for name in MEMORIES},
    "Split-, OnlineClassifier": a_split,
    "Mondrian": a_group,
    "Mahalanobis": a_novelty,
    "NoveltyGate": a_weight,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@d.fuzz(200)
@given(data=st.data())
def test_a_call_is_right_or_refused(name, data):
    d.check(TARGETS[name], data)
