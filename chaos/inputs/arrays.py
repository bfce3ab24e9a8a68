"""Every function of conformal-core on arrays of any library, dtype, shape and value.

A call must give what a reference in double precision gives, or refuse, in a TypeError or ValueError whose message names
the argument; and it may refuse only what the reference refuses. Under a minute with `--quick`, about four without.
"""

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "packages/conformal-core/tests"))

import _draws as d

import conformal_core as cc
import reference

Case = tuple[str, Callable[[], Any], np.ndarray | None, float]
"""Names of the arguments, the call, what it must give (None: must refuse), and how far off it may be."""


def same(*drawn: d.Drawn) -> bool:
    return len({x.library for x in drawn}) == 1


def fits(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(inner, outer) == outer
    except ValueError:
        return False


def good_alpha(alpha: Any) -> bool:
    return isinstance(alpha, (int, float)) and not isinstance(alpha, bool) and 0 < alpha < 1


def a_quantile(draw: Any) -> Case:
    scores, alpha = d.numbers(draw, d.library(draw), d.shape(draw)), d.alpha(draw)
    want = None
    if scores.finite and scores.held.ndim and good_alpha(alpha):
        k, flat = reference.rank(scores.held.shape[-1], alpha), np.sort(scores.held, axis=-1)
        want = np.full(scores.held.shape[:-1], np.inf) if k is None else flat[..., k - 1]
    return "scores alpha", lambda: cc.conformal_quantile(scores.array, alpha=alpha), want, 0


def a_weighted_quantile(draw: Any) -> Case:
    lib, n = d.library(draw), draw(st.sampled_from([0, 1, 2, 3, 4, 7]))
    scores, weights = d.numbers(draw, lib, (n,)), d.numbers(draw, lib, (n,), signed=False)
    test, alpha = d.numbers(draw, lib, d.shape(draw, 1), signed=False), d.alpha(draw)
    want = None
    if scores.finite and weights.finite and test.finite and good_alpha(alpha):
        past, heavy = scores.held.tolist(), weights.held.tolist()
        wanted = [exactly_or_nan(past, heavy, w, alpha) for w in test.held.reshape(-1)]
        want = np.asarray(wanted).reshape(test.held.shape)
    call = lambda: cc.weighted_conformal_quantile(scores.array, weights.array, test.array, alpha=alpha)  # noqa: E731
    return "scores weights test_weights alpha", call, want, 0


def exactly_or_nan(scores: list[float], weights: list[float], test: float, alpha: float) -> float:
    """Weighted quantile; NaN, which any answer passes, where sums in double precision may miss the level."""
    nudged = {reference.weighted_quantile(scores, weights, test, alpha + by) for by in (-1e-9, 0, 1e-9)}
    return nudged.pop() if len(nudged) == 1 else np.nan


def a_set(draw: Any) -> Case:
    lib, of = d.library(draw), d.shape(draw)
    scores, qhat = d.numbers(draw, lib, of), d.numbers(draw, lib, of[:-1])
    want = None
    if scores.finite and of and of[-1] and qhat.floating and not np.isnan(qhat.held).any():
        with np.errstate(all="ignore"):
            q = qhat.held if scores.dtype == "bfloat16" else qhat.held.astype(scores.dtype).astype(float)
        if scores.dtype == "bfloat16":
            q = d.to_numpy(qhat.array.to(scores.array.dtype))
        want = (scores.held <= q[..., None]).astype(float)
    return "scores qhat", lambda: cc.prediction_set(scores.array, qhat.array), want, 0


def a_size(draw: Any) -> Case:
    sets = d.booleans(draw, d.library(draw), d.shape(draw))
    want = sets.held.real.sum(-1) if sets.dtype == "bool" and sets.held.ndim else None
    return "sets", lambda: cc.set_size(sets.array), want, 0


def a_reliability(draw: Any) -> Case:
    lib, of = d.library(draw), (draw(d.SIZES), draw(d.SIZES))
    kind = draw(st.sampled_from(["normalized", "reciprocal"]))
    scores, labels = d.numbers(draw, lib, of), d.labels(draw, lib, of[:-1], of[-1])
    qhat = draw(st.sampled_from([0.5, -1.0, 0.2, float("inf"), float("-inf"), float("nan"), 1]))
    want = None
    if scores.finite and of[-1] and valid_labels(labels, of[-1]) and not np.isnan(qhat):
        q = float(d.Drawn(lib, np.asarray(float(qhat)), scores.dtype).held)
        pairs = zip(scores.held.tolist(), labels.held.astype(int).tolist(), strict=True)
        want = np.asarray([float(reference.reliability(s, y, q, kind)) for s, y in pairs]).reshape(of[:-1])
    call = lambda: cc.rank_reliability(scores.array, labels.array, qhat, kind=kind)  # noqa: E731
    return "scores labels qhat", call, want, 0.005


def valid_labels(labels: d.Drawn, classes: int) -> bool:
    return labels.integral and bool(((labels.held >= 0) & (labels.held < classes)).all())


def a_p_value(draw: Any) -> Case:
    lib, n = d.library(draw), draw(d.SIZES)
    past, scores = d.numbers(draw, lib, (n,)), d.numbers(draw, lib, d.shape(draw, 2))
    u = draw(st.sampled_from([None, 0.0, 0.25, 1.0, -1.0, float("nan"), 2]))
    want = None
    if past.finite and scores.finite and (u is None or 0 <= u <= 1):
        found = [float(reference.p_value(past.held.tolist(), s, u)) for s in scores.held.reshape(-1)]
        want = np.asarray(found).reshape(scores.held.shape)
    return "calibration_scores scores u", lambda: cc.p_values(past.array, scores.array, u=u), want, 1e-12


def a_rank(draw: Any) -> Case:
    n, alpha = draw(st.sampled_from([0, 1, 9, 10**30, -1, 1.0, True, None])), d.alpha(draw)
    right = type(n) is int and n >= 0 and good_alpha(alpha)
    k = reference.rank(n, alpha) if right else None
    want = np.asarray(np.nan if k is None else float(k)) if right else None
    return "n alpha", lambda: np.nan if (k := cc.quantile_rank(n, alpha)) is None else float(k), want, 0


def a_coverage(draw: Any) -> Case:
    lib, of = d.library(draw), (draw(d.SIZES), draw(d.SIZES))
    sets, labels = (
        d.booleans(draw, lib, of),
        d.labels(draw, lib, draw(st.sampled_from([of[:1], of[:1], (1,), ()])), of[1]),
    )
    groups = d.labels(draw, lib, of[:1], 3)
    which = draw(st.sampled_from(["coverage", "class_coverage", "size_coverage", "group_coverage"]))
    right = sets.dtype == "bool" and valid_labels(labels, of[1]) and fits(labels.held.shape, of[:1])
    right = right and (which != "group_coverage" or (groups.integral and (groups.held >= 0).all()))
    want = None
    if right:
        own = np.broadcast_to(labels.held, of[:1]).astype(int)
        inside = sets.held.real.astype(bool)
        hits = inside[np.arange(of[0]), own]
        by = {
            "coverage": np.zeros(of[0], int),
            "class_coverage": own,
            "size_coverage": inside.sum(1),
            "group_coverage": groups.held.real.astype(int),
        }[which]
        count = {
            "coverage": 1,
            "class_coverage": of[1],
            "size_coverage": of[1] + 1,
            "group_coverage": by.max(initial=-1) + 1,
        }[which]
        want = np.asarray([hits[by == g].mean() if (by == g).any() else np.nan for g in range(count)])
        want = want[0] if which == "coverage" else want
    more = (groups.array,) if which == "group_coverage" else ()
    call = lambda: getattr(cc, which)(sets.array, labels.array, *more).coverage  # noqa: E731
    return "sets labels groups", call, want, 1e-12


def a_rolling(draw: Any) -> Case:
    hits, window = d.booleans(draw, d.library(draw), d.shape(draw, 2)), draw(st.sampled_from([1, 2, 100, 0, 1.5, None]))
    want = None
    if hits.dtype == "bool" and hits.held.ndim == 1 and type(window) is int and window > 0:
        values = hits.held.real
        want = np.asarray([values[max(0, t + 1 - window) : t + 1].mean() for t in range(len(values))])
    return "hits window", lambda: cc.rolling_coverage(hits.array, window=window), want, 1e-12


SCORES = {
    "LAC": (cc.LAC, reference.lac, {}),
    "Margin": (cc.Margin, reference.margin, {}),
    "APS": (cc.APS, reference.aps, {}),
    "RAPS": (
        lambda: cc.RAPS(penalty=0.25, free_ranks=1),
        lambda r, y: reference.aps(r, y, penalty=0.25, free_ranks=1),
        {},
    ),
    "SAPS": (lambda: cc.SAPS(weight=0.25), lambda r, y: reference.saps(r, y, weight=0.25), {}),
}


def a_score(name: str) -> Callable[[Any], Case]:
    def build(draw: Any) -> Case:
        lib, of = d.library(draw), d.shape(draw)
        probs = d.rows(draw, lib, of)
        classes = of[-1] if of else 0
        labels = (
            d.labels(draw, lib, draw(st.sampled_from([of[:-1], of[:-1], (1,), (3, 1)])), classes)
            if draw(st.booleans())
            else None
        )
        made, one, _ = SCORES[name]
        right = probs.finite and bool(of) and of[-1] > 0 and bool((probs.held >= 0).all()) and summing(probs)
        right = right and (labels is None or (valid_labels(labels, classes) and fits(labels.held.shape, of[:-1])))
        if not right:
            want = None
        elif labels is None:
            flat = probs.held.reshape(-1, classes).tolist()
            want = np.asarray([[float(one(r, y)) for y in range(classes)] for r in flat]).reshape(of)
        else:
            own = np.broadcast_to(labels.held, of[:-1]).reshape(-1).astype(int).tolist()
            flat = probs.held.reshape(-1, classes).tolist()
            want = np.asarray([float(one(r, y)) for r, y in zip(flat, own, strict=True)]).reshape(of[:-1])
        eps = {"float64": 1e-15, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}.get(probs.dtype, 1)
        return "probs labels", lambda: made()(probs.array, *([] if labels is None else [labels.array])), want, 40 * eps

    return build


def summing(probs: d.Drawn) -> bool:
    """Whether rows sum to 1 clearly within, or clearly out of, what rounding explains."""
    off = np.abs(probs.held.sum(-1) - 1).max(initial=0)
    return bool(off <= {"float64": 1e-5, "float32": 3.4e-4, "float16": 0.03, "bfloat16": 0.08}[probs.dtype])


def a_residual(draw: Any) -> Case:
    lib, of, name = (
        d.library(draw),
        d.shape(draw, 2),
        draw(st.sampled_from(["AbsoluteResidual", "NormalizedResidual", "CQR"])),
    )
    wide = name != "AbsoluteResidual"
    predictions = d.numbers(draw, lib, (*of, draw(st.sampled_from([2, 2, 2, 1, 3]))) if wide else of)
    targets = d.numbers(draw, lib, draw(st.sampled_from([of, of, (1,), (3, 5)])))
    p, y = predictions.held.real, targets.held.real
    want = None
    right = predictions.finite and targets.finite and (not wide or p.shape[-1] == 2) and fits(y.shape, of)
    if right and (name != "NormalizedResidual" or (p[..., 1] > 0).all()):
        with np.errstate(all="ignore"):
            want = {
                "AbsoluteResidual": lambda: np.abs(y - p),
                "NormalizedResidual": lambda: np.abs(y - p[..., 0]) / p[..., 1],
                "CQR": lambda: np.maximum(p[..., 0] - y, y - p[..., 1]),
            }[name]()
    eps = {"float64": 1e-15, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}
    off = max(eps.get(predictions.dtype, 1), eps.get(targets.dtype, 1))
    return "predictions targets", lambda: getattr(cc, name)()(predictions.array, targets.array), want, -20 * off


def an_interval(draw: Any) -> Case:
    lib, of = d.library(draw), d.shape(draw, 2)
    predictions, qhat = d.numbers(draw, lib, of), d.numbers(draw, lib, draw(st.sampled_from([of, (), (3, 5)])))
    want = None
    if predictions.finite and qhat.floating and fits(qhat.held.shape, of) and not np.isnan(qhat.held).any():
        want = np.stack(np.broadcast_arrays(predictions.held - qhat.held, predictions.held + qhat.held), axis=-1)
    eps = {"float64": 1e-15, "float32": 1.2e-7, "float16": 1e-3, "bfloat16": 8e-3}
    off = max(eps.get(predictions.dtype, 1), eps.get(qhat.dtype, 1))
    return "predictions qhat", lambda: cc.AbsoluteResidual().interval(predictions.array, qhat.array), want, -20 * off


MEMORIES = {
    "Fixed": cc.Fixed,
    "History": cc.History,
    "Window": lambda: cc.Window(5),
    "Reservoir": lambda: cc.Reservoir(10_000),
}


def a_memory(name: str) -> Callable[[Any], Case]:
    def build(draw: Any) -> Case:
        from fractions import Fraction  # noqa: PLC0415

        lib = d.library(draw)
        parts = [d.numbers(draw, lib, d.shape(draw, 2)) for _ in range(draw(st.integers(1, 3)))]
        if draw(st.booleans()):
            parts = [d.Drawn(lib, p.held.real, parts[0].dtype) for p in parts]
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
        if all(p.finite for p in parts):
            with np.errstate(all="ignore"):
                seen = [s for p in parts for s in p.held.reshape(-1).tolist()]
            seen = sorted(seen[-5:] if name == "Window" else seen)
            k = -((-(len(seen) + 1) * (1 - level)) // 1)
            want = np.asarray(np.inf if k > len(seen) else -np.inf if k < 1 else seen[int(k) - 1])
        mixed = name == "Fixed" and len({p.dtype for p in parts}) > 1
        return "scores", call, want, np.inf if mixed else 0

    return build


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

    ok = good_alpha(alpha) and valid_labels(labels, k)
    ok = ok and all(x.finite and (x.held >= 0).all() and summing(x) for x in (probs, new))
    want = None
    if ok:
        lac = cc.LAC()
        own = d.to_numpy(lac(probs.array, labels.array))
        q = reference.quantile(own.tolist(), alpha)
        if np.isfinite(q):
            q = float(d.Drawn(lib, np.asarray(q), new.dtype).held)
        want = (d.to_numpy(lac(new.array)) <= q).astype(float)
    return "probs labels alpha", call, want, 0


def a_group(draw: Any) -> Case:
    """Thresholds of groups: each set is that of the rows of its group."""
    lib, n, k = d.library(draw), draw(d.SIZES), draw(st.integers(1, 4))
    probs, labels, new = d.rows(draw, lib, (n, k)), d.labels(draw, lib, (n,), k), d.rows(draw, lib, (3, k))
    groups, asked = d.labels(draw, lib, (n,), 2), d.labels(draw, lib, (3,), 2)
    alpha = d.alpha(draw)

    def call() -> Any:
        predictor = cc.MondrianClassifier(cc.LAC(), alpha=alpha, groups=2)
        predictor.calibrate(probs.array, labels.array, groups.array)
        return predictor.predict(new.array, asked.array)

    ok = good_alpha(alpha) and valid_labels(labels, k) and valid_labels(groups, 2) and valid_labels(asked, 2)
    ok = ok and all(x.finite and (x.held >= 0).all() and summing(x) for x in (probs, new))
    want = None
    if ok:
        own, scores = d.to_numpy(cc.LAC()(probs.array, labels.array)), d.to_numpy(cc.LAC()(new.array))
        kept = [reference.quantile(own[groups.held == group].tolist(), alpha) for group in (0, 1)]
        # Thresholds are kept in the dtype of the calibration rows, and compared in that of the new ones.
        rounded = [float(d.Drawn(lib, d.Drawn(lib, np.asarray(q), probs.dtype).held, new.dtype).held) for q in kept]
        want = (scores <= np.asarray(rounded)[asked.held.astype(int)][:, None]).astype(float)
    return "probs labels alpha groups", call, want, 0


def a_novelty(draw: Any) -> Case:
    """Distances are those of the definition, in double precision and for numbers of common size."""
    lib, n, width = d.library(draw), draw(d.SIZES), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["classes", "all", "neighbours"]))
    rows, new = d.numbers(draw, lib, (n, width)), d.numbers(draw, lib, (3, width))
    labels = d.labels(draw, lib, (n,), 2)

    def call() -> Any:
        score = {"classes": cc.Mahalanobis(classes=2), "all": cc.Mahalanobis(), "neighbours": cc.NearestNeighbours(k=2)}
        score[kind].update(rows.array, labels.array)
        return score[kind](new.array)

    ok = n > 0 and rows.finite and new.finite and (kind != "classes" or valid_labels(labels, 2))
    want, off = None, np.inf
    if ok:
        plain = all(x.dtype == "float64" and (np.abs(x.held) < 1e3).all() for x in (rows, new))
        off = -1e-6 if plain and rows.held.std(0).min() > 1e-3 else np.inf
        want = _distances(kind, rows.held, labels.held, new.held)
    return "features labels Mahalanobis NearestNeighbours", call, want, off


def _distances(kind: str, rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    if kind == "neighbours":
        unit = np.where(rows.std(0) > 0, rows.std(0), 1)
        apart = ((asked[:, None] - rows) / unit) ** 2
        return np.sort(apart.sum(-1), -1)[:, min(2, len(rows)) - 1]
    groups = labels if kind == "classes" else np.zeros(len(rows))
    means = {group: rows[groups == group].mean(0) for group in np.unique(groups)}
    apart = rows - np.stack([means[group] for group in groups])
    covariance = apart.T @ apart / len(rows)
    covariance += (1e-3 * np.trace(covariance) / len(covariance) + 1e-150) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    return np.min([np.einsum("nd,de,ne->n", asked - m, inverse, asked - m) for m in means.values()], 0)


def a_weight(draw: Any) -> Case:
    """Weights of a gate on given distances: 1 up to the threshold, and then its share."""
    lib = d.library(draw)
    known, new, alpha = d.numbers(draw, lib, d.shape(draw, 1), signed=False), d.numbers(draw, lib, (3,)), d.alpha(draw)
    if known.floating and not known.finite:  # a score's own affair
        known = d.Drawn(lib, np.zeros(3), known.dtype)

    def call() -> Any:
        gate = cc.NoveltyGate(lambda scores, check=None: scores, alpha=alpha)
        gate.calibrate(known.array, check=True)
        return gate.weights(new.array)

    want, ok = None, good_alpha(alpha) and known.finite and (known.held >= 0).all() and new.floating
    if ok:
        q = reference.quantile(known.held.reshape(-1).tolist(), alpha)
        with np.errstate(all="ignore"):
            want = np.where(new.held <= q, 1.0, q / new.held)
        want = np.where(np.isnan(new.held), np.nan, want)
    return "scores alpha features distances", call, want, 2e-2


TARGETS: dict[str, Callable[[Any], Case]] = {
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
    **{f"{name}.extend, quantile": a_memory(name) for name in MEMORIES},
    "Split-, OnlineClassifier": a_split,
    "MondrianClassifier": a_group,
    "novelty scores": a_novelty,
    "NoveltyGate": a_weight,
}


def judge(case: Case) -> None:
    """Fail unless the call gives what it must, or refuses what it must by name."""
    names, call, want, off = case
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*calibration scores are too few.*|.*too few calibration rows.*")
            got = d.to_numpy(call())
    except (TypeError, ValueError) as error:
        assert want is None, f"refused what is valid: {error}"
        assert any(name in str(error) for name in names.split()), f"names no argument: {error}"
        return
    assert want is not None, f"gave {got} where it must refuse"
    assert got.shape == want.shape, f"shape {got.shape}, not {want.shape}"
    if np.isinf(off):
        return
    if off < 0:  # relative, to the largest number that went in; what overflows its dtype is infinite
        finite = np.isfinite(got) & np.isfinite(want)
        scale = np.maximum(np.abs(want), 1)
        assert (np.abs(got - want)[finite] <= -off * scale[finite] + 1e-2).all(), f"gave {got}, not {want}"
        return
    with np.errstate(invalid="ignore"):
        equal = (got == want) | np.isnan(want) | (np.abs(got - want) <= off)
    assert equal.all(), f"gave {got}, not {want}"


def described(error: BaseException) -> str:
    """Return what went wrong, where, and with which arrays."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    case = next(frame.f_locals["case"] for frame in frames if "case" in frame.f_locals)
    given = [cell.cell_contents for cell in case[1].__closure__ or ()]
    return f"{type(error).__name__}: {str(error)[:300]} in {frames[-1].f_code.co_name}, given {str(given)[:400]}"


def main() -> int:
    """Run all targets, print a line for each, and return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=None)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    count = options.examples or (150 if options.quick else 1500)
    failed = 0
    for name, target in TARGETS.items():
        if options.only not in name:
            continue
        tried = 0

        def run(case: Case) -> None:
            nonlocal tried
            tried += 1
            judge(case)

        strategy = st.composite(lambda draw, target=target: target(draw))()
        check = seed(options.seed)(
            settings(
                max_examples=count,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )(given(strategy)(run))
        )
        try:
            check()
            verdict = "ok"
        except Exception as error:  # whatever escapes a public function is the finding
            failed += 1
            verdict = "FAILED " + "; ".join(described(one) for one in getattr(error, "exceptions", [error]))
        print(f"{name:<34}{tried:>8}  {verdict}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
