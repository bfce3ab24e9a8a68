"""Agreement of crepes: p-values, sets, intervals and martingales."""

from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace

import inputs
import numpy as np
import ours
import pytest
from agreement import Cells, agrees

import conformal_core as cc

pytest.importorskip("crepes")

from crepes import ConformalClassifier, ConformalPredictiveSystem, ConformalRegressor, WrapClassifier
from crepes.base import p_values_online_class_cond, p_values_online_classification
from crepes.extras import hinge, margin
from crepes.martingales import CompositeMartingale, semi_online_p_values
from crepes.martingales import SimpleJumper as TheirJumper

AT_ALPHA, WARM = "p = alpha", "calibration scores given, own label only"
GROUPS = 3
SIZES = (1, 9, 19, 20, 99)


def draws(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the draws that crepes makes with a seed."""
    return np.random.RandomState(seed).random_sample(shape)


def own(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the value of the label of each row."""
    return values[np.arange(len(labels)), labels]


@agrees
def test_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        predictor = ConformalClassifier().fit(case.calibration)
        yield Cells(cc.p_values(case.calibration, case.test), predictor.predict_p(case.test, smoothing=False))


@agrees
def test_smoothed_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        theirs = ConformalClassifier().fit(case.calibration).predict_p(case.test, seed=1)
        yield Cells(cc.p_values(case.calibration, case.test, u=draws(case.test.shape, 1)), theirs)


@agrees
def test_scores() -> Iterator[Cells]:
    for case in inputs.rows(sizes=(20,)):
        classes = np.arange(case.probs.shape[1])
        for score, theirs in ((cc.LAC(), hinge), (cc.Margin(), margin)):
            yield Cells(score(case.test), theirs(case.test))
            yield Cells(score(case.probs, case.labels), theirs(case.probs, classes, case.labels))


@agrees
def test_sets() -> Iterator[Cells]:
    for case in inputs.rows(test=8, sizes=SIZES):
        predictor = ConformalClassifier().fit(hinge(own(case.probs, case.labels)))
        for alpha in inputs.alphas(len(case.labels)):
            theirs = predictor.predict_set(hinge(case.test), confidence=1 - alpha, smoothing=False)
            at_alpha = np.abs(ours.p_values(cc.LAC(), case) - alpha) < inputs.ROUNDING
            yield Cells(ours.sets(cc.LAC(), case, alpha), theirs, {AT_ALPHA: at_alpha})


@agrees
def test_sets_of_groups() -> Iterator[Cells]:
    for case in inputs.rows(test=8, sizes=(9, 20, 99)):
        groups, test_groups = np.arange(len(case.labels)) % GROUPS, np.arange(len(case.test)) % GROUPS
        predictor = ConformalClassifier().fit(hinge(own(case.probs, case.labels)), bins=groups)
        p = predictor.predict_p(hinge(case.test), test_groups, smoothing=False)
        for alpha in inputs.ALPHAS:
            mondrian = cc.Mondrian(cc.SplitClassifier(cc.LAC(), alpha=alpha))
            mondrian.calibrate(case.probs, case.labels, groups=groups)
            theirs = predictor.predict_set(hinge(case.test), test_groups, confidence=1 - alpha, smoothing=False)
            at_alpha = np.abs(p - alpha) < inputs.ROUNDING
            yield Cells(mondrian.predict(case.test, groups=test_groups), theirs, {AT_ALPHA: at_alpha})
        yield Cells(mondrian.p_values(case.test, groups=test_groups), p)


@agrees
def test_sets_of_classes() -> Iterator[Cells]:
    for case in inputs.rows(test=8, sizes=(99,)):
        classes = np.arange(case.probs.shape[1])
        predictor = WrapClassifier(SimpleNamespace(classes_=classes, predict_proba=lambda rows: rows))
        predictor.calibrate(case.probs, case.labels, class_cond=True, nc=hinge)
        p = predictor.predict_p(case.test, smoothing=False)
        for alpha in inputs.ALPHAS:
            mondrian = cc.ClassConditionalClassifier(cc.LAC(), alpha=alpha)
            mondrian.calibrate(case.probs, case.labels)
            theirs = predictor.predict_set(case.test, labels=False, confidence=1 - alpha, smoothing=False)
            at_alpha = np.abs(p - alpha) < inputs.ROUNDING
            yield Cells(mondrian.predict(case.test), theirs, {AT_ALPHA: at_alpha})
        yield Cells(mondrian.p_values(case.test), p)


@agrees
def test_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        for normalized in (False, True):
            predictor = ConformalRegressor()
            predictor.fit(case.targets - case.predictions, sigmas=case.sigmas if normalized else None)
            for alpha in inputs.alphas(n):
                sigmas = case.test_sigmas if normalized else None
                theirs = predictor.predict_int(case.test_predictions, sigmas=sigmas, confidence=1 - alpha)
                intervals = ours.intervals(case, alpha, normalized=normalized)
                conditions = inputs.misranked(n, alpha, n + 1 - int((1 - (1 - alpha)) * (n + 1)))
                yield Cells(intervals, theirs, conditions, inputs.precision(case.targets))


@agrees
def test_intervals_of_groups() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        groups, test_groups = np.arange(n) % GROUPS, np.arange(len(case.test_targets)) % min(n, GROUPS)
        sizes = np.bincount(groups)
        predictor = ConformalRegressor().fit(case.targets - case.predictions, bins=groups)
        for alpha in inputs.alphas(n // GROUPS):
            mondrian = cc.Mondrian(cc.SplitRegressor(cc.AbsoluteResidual(), alpha=alpha))
            mondrian.calibrate(case.predictions, case.targets, groups=groups)
            theirs = predictor.predict_int(case.test_predictions, bins=test_groups, confidence=1 - alpha)
            ranks = [inputs.misranked(m, alpha, m + 1 - int((1 - (1 - alpha)) * (m + 1))) for m in sizes.tolist()]
            conditions = {name: np.asarray([rank[name] for rank in ranks])[test_groups, None] for name in ranks[0]}
            intervals = mondrian.predict(case.test_predictions, groups=test_groups)
            yield Cells(intervals, theirs, conditions, inputs.precision(case.targets))
        theirs = predictor.predict_p(case.test_predictions, case.test_targets, bins=test_groups, smoothing=False)
        yield Cells(mondrian.p_values(case.test_predictions, case.test_targets, groups=test_groups), theirs)


@agrees
def test_quantiles() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        predictor = ConformalPredictiveSystem().fit(case.targets - case.predictions)
        system = ours.predictive_system(case, normalized=False)
        for alpha in inputs.alphas(n):
            low = predictor.predict_percentiles(case.test_predictions, lower_percentiles=100 * alpha)
            high = predictor.predict_percentiles(case.test_predictions, higher_percentiles=100 * (1 - alpha))
            ranks = n + 1 - int(100 * alpha / 100 * (n + 1)), int(np.ceil(100 * (1 - alpha) / 100 * (n + 1)))
            below = system.quantile(case.test_predictions, alpha, lower=True)
            quantiles = below, system.quantile(case.test_predictions, 1 - Decimal(str(alpha)))
            ends = [ours.one_sided(case, side, alpha).predict(case.test_predictions) for side in ("lower", "upper")]
            precision = inputs.precision(case.targets)
            for place, (theirs, rank) in enumerate(zip((low, high), ranks, strict=True)):
                conditions = inputs.misranked(n, alpha, rank)
                yield Cells(quantiles[place], theirs, conditions, precision)
                yield Cells(ends[place][:, place], theirs, conditions, precision)


@agrees
def test_predictive_distributions() -> Iterator[Cells]:
    for case in inputs.forecasts():
        for normalized in (False, True):
            sigmas, test_sigmas = (case.sigmas, case.test_sigmas) if normalized else (None, None)
            predictor = ConformalPredictiveSystem().fit(case.targets - case.predictions, sigmas=sigmas)
            system, rows = ours.predictive_system(case, normalized=normalized), case.test_rows(normalized=normalized)
            for smoothing, u in ((False, None), (True, draws(case.test_targets.shape, 3))):
                options = {"smoothing": smoothing, "seed": 3}
                theirs = predictor.predict_p(case.test_predictions, case.test_targets, test_sigmas, **options)
                yield Cells(system.cdf(rows, case.test_targets, u=u), theirs)


@agrees
def test_p_values_of_targets() -> Iterator[Cells]:
    for case in inputs.forecasts():
        predictor = ConformalRegressor().fit(case.targets - case.predictions)
        theirs = predictor.predict_p(case.test_predictions, case.test_targets, smoothing=False)
        predictor = cc.SplitRegressor(cc.AbsoluteResidual(), alpha=0.1)
        predictor.calibrate(case.predictions, case.targets)
        yield Cells(predictor.p_values(case.test_predictions, case.test_targets), theirs)


@agrees
def test_p_values_of_streams() -> Iterator[Cells]:
    for case in inputs.rows(test=60, sizes=(1, 20)):
        labels = np.arange(len(case.test)) % case.test.shape[1]
        for start in (0, len(case.labels)):
            past = hinge(own(case.probs, case.labels))[:start] if start else None
            options = {"alphas_cal": past, "smoothing": False}
            arguments = hinge(case.test), np.arange(case.test.shape[1]), labels
            everyone = p_values_online_classification(*arguments, **options)
            only_own = p_values_online_classification(*arguments, all_classes=False, **options)
            stream = np.stack(list(_stream(case, labels, start)))
            yield Cells(stream, everyone)
            yield Cells(own(stream, labels), only_own, {WARM: start > 0})


def _stream(case: inputs.Rows, labels: np.ndarray, start: int) -> Iterator[np.ndarray]:
    predictor = cc.OnlineClassifier(cc.LAC(), alpha=0.1)
    if start:
        predictor.calibrate(case.probs[:start], case.labels[:start])
    for row, label in zip(case.test, labels, strict=True):
        yield predictor.p_values(row)
        predictor.update(row, label)


@agrees
def test_mondrian_p_values_of_streams() -> Iterator[Cells]:
    for case in inputs.rows(test=60, sizes=(20,)):
        rows, classes = len(case.test), case.test.shape[1]
        labels, groups, known_groups = np.arange(rows) % classes, np.arange(rows) % GROUPS, np.arange(20) % GROUPS
        arguments, past = (hinge(case.test), np.arange(classes), labels), hinge(own(case.probs, case.labels))
        # Without smoothing, crepes raises UnboundLocalError for groups.
        by_group = p_values_online_classification(*arguments, groups, past, known_groups, seed=4)
        by_class = p_values_online_class_cond(*arguments, past, case.labels, seed=4)
        u = np.stack([draws(case.test.shape, 4)] * 2)
        u[0] = u[0][np.argsort(np.argsort(groups, kind="stable"))]  # crepes draws group after group
        of_groups = cc.Mondrian(cc.OnlineClassifier(cc.LAC(), alpha=0.1))
        of_groups.calibrate(case.probs, case.labels, groups=known_groups)
        of_classes = cc.ClassConditionalClassifier(cc.LAC(), alpha=0.1)
        of_classes.calibrate(case.probs, case.labels)
        mondrian = np.empty((2, *case.test.shape))
        for place, (row, label, group) in enumerate(zip(case.test, labels, groups.tolist(), strict=True)):
            mondrian[0, place] = of_groups.p_values(row[None], groups=[group], u=u[0, place][None])[0]
            mondrian[1, place] = of_classes.p_values(row, u=u[1, place])
            of_groups.update(row[None], labels[place : place + 1], groups=[group])
            of_classes.update(row, label)
        yield Cells(mondrian, np.stack([by_group, by_class]))


@agrees
def test_smoothed_p_values_of_streams() -> Iterator[Cells]:
    for case in inputs.scores():
        stream, u = case.test, draws(case.test.shape, 2)
        memory = cc.History()
        smoothed = []
        for score, draw in zip(stream, u, strict=True):
            smoothed.append(float(memory.p_values(score[None], u=draw)[0]))
            memory.add(float(score))
        for optimized in (False, True):
            yield Cells(np.asarray(smoothed), semi_online_p_values(stream, seed=2, optimized=optimized))


@agrees
def test_simple_jumper() -> Iterator[Cells]:
    for p_values in inputs.p_value_streams():
        for jump in (0.0001, 0.01, 0.5):
            log_capital = ours.log_capital(cc.SimpleJumper(jump=jump, one_sided=False), p_values)
            yield Cells(np.exp(log_capital), TheirJumper(J=jump).apply(p_values), tolerance=inputs.SUMS)


@agrees
def test_composite_jumper() -> Iterator[Cells]:
    jumps = (0.0001, 0.001, 0.01, 0.1)
    for p_values in inputs.p_value_streams():
        parts = [cc.SimpleJumper(jump=jump, one_sided=False) for jump in jumps]
        theirs = CompositeMartingale([TheirJumper(J=jump) for jump in jumps]).apply(p_values)
        yield Cells(np.exp(ours.log_capital(cc.MixtureMartingale(parts), p_values)), theirs, tolerance=inputs.SUMS)
