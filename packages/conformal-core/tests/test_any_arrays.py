"""Functions of conformal-core on arrays of any library, dtype, shape and value."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conformal_core as cc
import fuzzing as d
import reference
from fuzzing import EPS, Case, apart, fits, valid_alpha, valid_labels, valid_rows

SCORES = {
    "LAC": (cc.LAC(), reference.lac),
    "Margin": (cc.Margin(), reference.margin),
    "APS": (cc.APS(), reference.aps),
    "RAPS": (
        cc.RAPS(penalty=0.25, free_ranks=1),
        lambda row, label: reference.aps(row, label, penalty=0.25, free_ranks=1),
    ),
    "SAPS": (cc.SAPS(weight=0.25), lambda row, label: reference.saps(row, label, weight=0.25)),
}


def a_quantile(draw: Any) -> Case:
    scores, alpha = d.numbers(draw, d.library(draw), d.shape(draw)), d.alpha(draw)
    want = None
    if scores.numeric and scores.values.ndim and valid_alpha(alpha):
        k, flat = reference.rank(scores.values.shape[-1], alpha), np.sort(scores.values, axis=-1)
        want = np.full(scores.values.shape[:-1], np.inf) if k is None else flat[..., k - 1]
    return Case("scores alpha", lambda: cc.conformal_quantile(scores.array, alpha=alpha), want, 0)


def a_weighted_quantile(draw: Any) -> Case:
    lib, n = d.library(draw), draw(st.sampled_from([0, 1, 2, 3, 4, 7]))
    scores, weights = d.numbers(draw, lib, (n,)), d.numbers(draw, lib, (n,), signed=False)
    test, alpha = d.numbers(draw, lib, d.shape(draw, 1), signed=False), d.alpha(draw)
    want = None
    right = all(x.numeric and (x.values >= 0).all() for x in (weights, test))
    if scores.numeric and right and valid_alpha(alpha):
        past, heavy = scores.values.tolist(), weights.values.tolist()
        wanted = [exactly_or_nan(past, heavy, w, alpha) for w in test.values.reshape(-1)]
        want = np.asarray(wanted).reshape(test.values.shape)
    call = lambda: cc.weighted_conformal_quantile(scores.array, weights.array, test.array, alpha=alpha)  # noqa: E731
    return Case("scores weights test_weights alpha", call, want, 0)


def exactly_or_nan(scores: list[float], weights: list[float], test: float, alpha: float) -> float:
    """Return the weighted quantile, or NaN where sums in double precision may miss the level."""
    nudged = {reference.weighted_quantile(scores, weights, test, float(alpha) + by) for by in (-1e-9, 0, 1e-9)}
    return nudged.pop() if len(nudged) == 1 else np.nan


def a_set(draw: Any) -> Case:
    lib, of = d.library(draw), d.shape(draw)
    scores, qhat = d.numbers(draw, lib, of), d.numbers(draw, lib, of[:-1])
    want = None
    if scores.numeric and of and of[-1] and qhat.real and not np.isnan(qhat.values).any():
        q = qhat.values[..., None]
        want = np.where(apart(scores.values, q, scores, qhat), scores.values <= q, np.nan)
    return Case("scores qhat", lambda: cc.prediction_set(scores.array, qhat.array), want, 0)


def a_size(draw: Any) -> Case:
    sets = d.booleans(draw, d.library(draw), d.shape(draw))
    want = sets.values.real.sum(-1) if sets.dtype == "bool" and sets.values.ndim else None
    return Case("sets", lambda: cc.set_size(sets.array), want, 0)


def a_reliability(draw: Any) -> Case:
    lib, of = d.library(draw), (draw(d.SIZES), draw(d.SIZES))
    kind = draw(st.sampled_from(["normalized", "reciprocal"]))
    scores, labels = d.numbers(draw, lib, of), d.labels(draw, lib, of[:-1], of[-1])
    qhat = draw(st.sampled_from([0.5, -1.0, 0.2, float("inf"), float("-inf"), float("nan"), 1]))
    want = None
    if scores.numeric and of[-1] and valid_labels(labels, of[-1]) and not np.isnan(qhat):
        q = float(d.Drawn(lib, np.asarray(float(qhat)), scores.dtype if scores.floating else "float64").values)
        pairs = zip(scores.values.tolist(), labels.values.astype(int).tolist(), strict=True)
        want = np.asarray([float(reference.reliability(s, y, q, kind)) for s, y in pairs]).reshape(of[:-1])
    call = lambda: cc.rank_reliability(scores.array, labels.array, qhat, kind=kind)  # noqa: E731
    return Case("scores labels qhat", call, want, 0.005)


def a_p_value(draw: Any) -> Case:
    lib, n = d.library(draw), draw(d.SIZES)
    past, scores = d.numbers(draw, lib, (n,)), d.numbers(draw, lib, d.shape(draw, 2))
    u = draw(st.sampled_from([None, 0.0, 0.25, 1.0, -1.0, float("nan"), 2]))
    want = None
    if past.numeric and scores.numeric and (u is None or 0 <= u <= 1):
        found = [float(reference.p_value(past.values.tolist(), s, u)) for s in scores.values.reshape(-1)]
        clear = apart(past.values, scores.values[..., None], past, scores).all(-1)
        want = np.where(clear, np.asarray(found).reshape(scores.values.shape), np.nan)
    return Case("calibration_scores scores u", lambda: cc.p_values(past.array, scores.array, u=u), want, 1e-12)


def a_rank(draw: Any) -> Case:
    n, alpha = draw(st.sampled_from([0, 1, 9, 10**30, -1, 1.0, True, None])), d.alpha(draw)
    right = type(n) is int and n >= 0 and valid_alpha(alpha)
    k = reference.rank(n, alpha) if right else None
    want = np.asarray(np.nan if k is None else float(k)) if right else None
    return Case("n alpha", lambda: np.nan if (k := cc.quantile_rank(n, alpha=alpha)) is None else float(k), want, 0)


def a_coverage(draw: Any) -> Case:
    lib, of = d.library(draw), (draw(d.SIZES), draw(d.SIZES))
    sets, labels = (
        d.booleans(draw, lib, of),
        d.labels(draw, lib, draw(st.sampled_from([of[:1], of[:1], (1,), ()])), of[1]),
    )
    groups = d.labels(draw, lib, of[:1], 3)
    which = draw(st.sampled_from(["coverage", "class_coverage", "size_coverage", "group_coverage"]))
    right = sets.dtype == "bool" and valid_labels(labels, of[1]) and fits(labels.values.shape, of[:1])
    right = right and (which != "group_coverage" or (groups.integral and (groups.values >= 0).all()))
    want = None
    if right:
        own = np.broadcast_to(labels.values, of[:1]).astype(int)
        inside = sets.values.real.astype(bool)
        hits = inside[np.arange(of[0]), own]
        by = {
            "coverage": np.zeros(of[0], int),
            "class_coverage": own,
            "size_coverage": inside.sum(1),
            "group_coverage": groups.values.real.astype(int),
        }[which]
        count = {
            "coverage": 1,
            "class_coverage": of[1],
            "size_coverage": of[1] + 1,
            "group_coverage": by.max(initial=-1) + 1,
        }[which]
        want = np.asarray([hits[by == g].mean() if (by == g).any() else np.nan for g in range(count)])
        want = want[0] if which == "coverage" else want
    more = {"groups": groups.array} if which == "group_coverage" else {}
    call = lambda: getattr(cc, which)(sets.array, labels.array, **more).coverage  # noqa: E731
    return Case("sets labels groups", call, want, 1e-12)


def a_rolling(draw: Any) -> Case:
    hits, window = d.booleans(draw, d.library(draw), d.shape(draw, 2)), draw(st.sampled_from([1, 2, 100, 0, 1.5, None]))
    want = None
    if hits.dtype == "bool" and hits.values.ndim == 1 and type(window) is int and window > 0:
        values = hits.values.real
        want = np.asarray([values[max(0, t + 1 - window) : t + 1].mean() for t in range(len(values))])
    return Case("hits window", lambda: cc.rolling_coverage(hits.array, window=window), want, 1e-12)


def a_score(name: str) -> Callable[[Any], Case]:
    score, one = SCORES[name]

    def build(draw: Any) -> Case:
        lib, of = d.library(draw), d.shape(draw)
        probs = d.rows(draw, lib, of)
        classes = of[-1] if of else 0
        labels = None
        if draw(st.booleans()):
            labels = d.labels(draw, lib, draw(st.sampled_from([of[:-1], of[:-1], (1,), (3, 1)])), classes)
        right = classes > 0 and valid_rows(probs)
        right = right and (labels is None or (valid_labels(labels, classes) and fits(labels.values.shape, of[:-1])))
        want = None
        if right:
            flat = probs.values.reshape(-1, classes).tolist()
            every = [range(classes)] * len(flat)
            if labels is not None:
                every = np.broadcast_to(labels.values, of[:-1]).reshape(-1, 1).astype(int).tolist()
            found = [float(one(row, label)) for row, of_row in zip(flat, every, strict=True) for label in of_row]
            want = np.asarray(found).reshape(of if labels is None else of[:-1])
        tolerance = 40 * max(EPS.get(probs.dtype, 1), 1e-15)
        more = () if labels is None else (labels.array,)
        return Case("probs labels", lambda: score(probs.array, *more), want, tolerance)

    return build


def a_residual(draw: Any) -> Case:
    lib, of, name = (
        d.library(draw),
        d.shape(draw, 2),
        draw(st.sampled_from(["AbsoluteResidual", "NormalizedResidual", "CQR"])),
    )
    wide = name != "AbsoluteResidual"
    predictions = d.numbers(draw, lib, (*of, draw(st.sampled_from([2, 2, 2, 1, 3]))) if wide else of)
    targets = d.numbers(draw, lib, draw(st.sampled_from([of, of, (1,), (3, 5)])))
    p, y = predictions.values.real, targets.values.real
    want = None
    right = predictions.numeric and targets.numeric and (not wide or p.shape[-1] == 2) and fits(y.shape, of)
    if right and (name != "NormalizedResidual" or (p[..., 1] > 0).all()):
        with np.errstate(all="ignore"):
            want = {
                "AbsoluteResidual": lambda: np.abs(y - p),
                "NormalizedResidual": lambda: np.abs(y - p[..., 0]) / p[..., 1],
                "CQR": lambda: np.maximum(p[..., 0] - y, y - p[..., 1]),
            }[name]()
    off = max(EPS.get(predictions.dtype, 1), EPS.get(targets.dtype, 1))
    return Case("predictions targets", lambda: getattr(cc, name)()(predictions.array, targets.array), want, -20 * off)


def an_interval(draw: Any) -> Case:
    lib, of = d.library(draw), d.shape(draw, 2)
    predictions, qhat = d.numbers(draw, lib, of), d.numbers(draw, lib, draw(st.sampled_from([of, (), (3, 5)])))
    want = None
    if predictions.numeric and qhat.real and fits(qhat.values.shape, of) and not np.isnan(qhat.values).any():
        want = np.stack(
            np.broadcast_arrays(predictions.values - qhat.values, predictions.values + qhat.values), axis=-1
        )
    off = max(EPS.get(predictions.dtype, 1), EPS.get(qhat.dtype, 1))
    return Case(
        "predictions qhat", lambda: cc.AbsoluteResidual().interval(predictions.array, qhat.array), want, -20 * off
    )


def a_depth(draw: Any) -> Case:
    lib, of = d.library(draw), d.shape(draw, 2)
    predictions, targets = (d.numbers(draw, lib, of) for _ in range(2))
    qhat = d.numbers(draw, lib, draw(st.sampled_from([of, (), (3, 5)])))
    p, y, q = predictions.values, targets.values, qhat.values
    want, off = None, np.inf
    right = predictions.numeric and targets.numeric and qhat.real and fits(q.shape, of) and not np.isnan(q).any()
    if right:
        score = np.abs(y - p)
        ratio = np.divide(score, q, out=np.zeros(of), where=np.broadcast_to(q > 0, of))
        want = np.where(score <= q, 1 - ratio, 0.0)
        clear = all((np.abs(x) < 100).all() for x in (p, y)) and (np.abs(q) > 0.01).all() and (np.abs(q) < 100).all()
        if clear and (np.abs(score - q) > 1e-3).all() and {predictions.dtype, targets.dtype, qhat.dtype} == {"float64"}:
            off = 1e-10

    def call() -> Any:
        got = cc.AbsoluteResidual().reliability(predictions.array, targets.array, qhat.array)
        values = d.to_numpy(got)
        assert ((values >= 0) & (values <= 1)).all()
        return got

    return Case("predictions targets qhat", call, want, off)


TARGETS = {
    "quantile_rank": a_rank,
    "conformal_quantile": a_quantile,
    "weighted_conformal_quantile": a_weighted_quantile,
    "prediction_set": a_set,
    "set_size": a_size,
    "rank_reliability": a_reliability,
    "p_values": a_p_value,
    "coverage by class, size, group": a_coverage,
    "rolling_coverage": a_rolling,
    **{name: a_score(name) for name in SCORES},
    "residual scores": a_residual,
    "interval": an_interval,
    "reliability of a target": a_depth,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@d.fuzz(200)
@given(data=st.data())
def test_a_call_is_right_or_refused(name, data):
    d.check(TARGETS[name], data)
