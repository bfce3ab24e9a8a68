"""Agreement of MAPIE: sets, intervals, p-values, risk control and metrics."""

from collections.abc import Iterator

import inputs
import numpy as np
import ours
import pytest
from agreement import Cells, agrees

import conformal_core as cc

pytest.importorskip("mapie")

from mapie.conformity_scores import AbsoluteConformityScore, ResidualNormalisedScore
from mapie.exchangeability_testing import OnlineMartingaleTest
from mapie.metrics.classification import classification_coverage_score, classification_ssc
from mapie.metrics.regression import regression_coverage_score, regression_mean_width_score, regression_mwi_score
from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor
from mapie.risk_control.fwer_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value, find_best_predict_param, get_r_hat_plus
from mapie_models import Column, all_levels, classifier, levels, sets

REFUSED = "1/alpha or 1/(1 - alpha) exceeds N"
NEAR, TIED, NO_MASS = "score within 1e-8 of the threshold", "tied labels", "row with a label without mass"
AT_ALPHA, NONE = "bound = alpha", "no threshold controls the risk"
ROUNDED_MEAN, ROUNDED_SUM = "N times the mean above the sum", "N times the mean below the sum"
CROSSED = "lower end above upper end"
SIZES = (9, 20, 99, 150)


def conditions_of(probs: np.ndarray, distances: np.ndarray) -> dict[str, np.ndarray]:
    """Return where a score is close to the threshold, another label is as probable, and a label has no mass."""
    return {
        NEAR: (distances > 0) & (distances <= 2e-8),
        TIED: (probs[..., None, :] == probs[..., None]).sum(axis=-1) > 1,
        NO_MASS: (probs == 0).any(axis=-1, keepdims=True),
    }


def draws(count: int) -> np.ndarray:
    """Return one minus the draws of MAPIE, which takes the mass after a draw where conformal-core takes that before."""
    return 1 - np.random.RandomState(0).uniform(size=count)


@agrees
def test_smoothed_p_values() -> Iterator[Cells]:
    for case in inputs.scores():
        monitor, rng = OnlineMartingaleTest(random_state=0), np.random.default_rng(0)
        theirs = [monitor.compute_p_value(score, case.calibration) for score in case.test]
        yield Cells(cc.p_values(case.calibration, case.test, u=rng.random(len(case.test))), theirs)


@agrees
def test_accepted_levels() -> Iterator[Cells]:
    one_of_each_size = {len(case.labels): case for case in inputs.rows(test=1)}
    for n, case in one_of_each_size.items():
        for pair in all_levels(n):
            try:
                classifier(case, [pair], "lac").predict_set(case.test)
                accepted = True
            except ValueError:
                accepted = False
            alpha = pair[1]
            refused = n < max(1 / alpha, 1 / (1 - alpha))
            yield Cells(cc.quantile_rank(n, alpha=alpha) is not None, accepted, {REFUSED: refused})


def several_classes(test: int, sizes: tuple[int, ...] = SIZES) -> Iterator[inputs.Rows]:
    """Return rows with more than two classes, since MAPIE refuses scores other than LAC with two."""
    return (case for case in inputs.rows(test, sizes) if case.probs.shape[1] > 2)


@agrees
def test_thresholds() -> Iterator[Cells]:
    for case in several_classes(test=1):
        n, pairs = len(case.labels), levels(len(case.labels))
        predictor = classifier(case, pairs, "aps")
        _, thresholds = sets(predictor, case, last=True)
        for (_, alpha), threshold in zip(pairs, thresholds, strict=True):
            conditions = inputs.misranked(n, alpha, int(np.ceil((n + 1) * (1 - alpha))))
            yield Cells(cc.conformal_quantile(predictor.conformity_scores.ravel(), alpha=alpha), threshold, conditions)


@agrees
def test_aps_scores() -> Iterator[Cells]:
    for case in several_classes(test=1):
        theirs = classifier(case, levels(len(case.labels))[:1], "aps").conformity_scores.ravel()
        u = draws(len(case.labels))
        rows = np.arange(len(case.labels))
        conditions = {TIED: conditions_of(case.probs, np.ones(1))[TIED][rows, case.labels]}
        scores = cc.APS(randomized=True)(case.probs, case.labels, u=u.astype(case.probs.dtype))
        yield Cells(scores, theirs, conditions, inputs.precision(case.probs))


@agrees
def test_lac_sets() -> Iterator[Cells]:
    for case in inputs.rows(sizes=SIZES):
        theirs, thresholds = sets(classifier(case, levels(len(case.labels)), "lac"), case, last=True)
        for place, threshold in enumerate(thresholds.tolist()):
            conditions = conditions_of(case.test, cc.LAC()(case.test) - threshold)
            yield Cells(cc.LAC().sets(case.test, threshold), theirs[..., place], conditions)


@agrees
def test_aps_sets() -> Iterator[Cells]:
    for case in several_classes(test=100):
        predictor = classifier(case, levels(len(case.labels)), "aps")
        rows, randomized = len(case.test), cc.APS(randomized=True)
        for last, score, u in (
            (True, randomized, np.zeros(rows)),
            (False, cc.APS(), None),
            ("randomized", randomized, draws(rows)),
        ):
            theirs, thresholds = sets(predictor, case, last=last)
            u = None if u is None else u.astype(case.test.dtype)  # noqa: PLW2901
            scores = score(case.test, u=u)
            for place, threshold in enumerate(thresholds.tolist()):
                inside = score.sets(case.test, threshold, u=u, nonempty=last != "randomized")
                conditions = conditions_of(case.test, scores - threshold)
                yield Cells(inside, theirs[..., place], conditions)


@agrees
def test_raps_sets() -> Iterator[Cells]:
    for case in several_classes(test=100, sizes=(150,)):
        if case.probs.shape[1] > 5:
            continue  # MAPIE needs each class several times for its hold-out set
        for pair in levels(10):  # the hold-out set has few rows
            predictor = classifier(case, [pair], "raps")
            theirs, (threshold,) = sets(predictor, case, last=False)
            function = predictor._mapie_classifier.conformity_score_function_
            score = cc.RAPS(penalty=float(function.lambda_star), free_ranks=int(function.k_star.item()))
            conditions = conditions_of(case.test, score(case.test) - threshold)
            yield Cells(score.sets(case.test, float(threshold), nonempty=True), theirs[..., 0], conditions)


@agrees
def test_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n, pairs = len(case.targets), levels(len(case.targets))
        if not pairs:
            continue
        # MAPIE refuses residuals in single precision, which do not add up to the target exactly.
        x, test = (rows(normalized=True).astype(np.float64) for rows in (case.rows, case.test_rows))
        for normalized in (False, True):
            score = ResidualNormalisedScore(Column(1), prefit=True) if normalized else "absolute"
            confidences = [confidence for confidence, _ in pairs]
            predictor = SplitConformalRegressor(Column(0), confidence_level=confidences, conformity_score=score)
            theirs = predictor.conformalize(x, case.targets.astype(np.float64)).predict_interval(test)[1]
            for place, (_, alpha) in enumerate(pairs):
                conditions = inputs.misranked(n, alpha, int(np.ceil((n + 1) * (1 - alpha))))
                intervals = ours.intervals(case, alpha, normalized=normalized)
                yield Cells(intervals, theirs[..., place], conditions, inputs.precision(case.targets))


@agrees
def test_asymmetric_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        pairs = levels(n, n // 2)  # MAPIE asks for as many rows on each side
        if not pairs:
            continue
        score = AbsoluteConformityScore(sym=False)
        confidences = [confidence for confidence, _ in pairs]
        predictor = SplitConformalRegressor(Column(0), confidence_level=confidences, conformity_score=score)
        predictor.conformalize(case.predictions[:, None].astype(np.float64), case.targets.astype(np.float64))
        theirs = predictor.predict_interval(case.test_predictions[:, None].astype(np.float64))[1]
        for place, (_, alpha) in enumerate(pairs):
            ends = [ours.one_sided(case, side, alpha / 2) for side in ("lower", "upper")]
            intervals = cc.AsymmetricRegressor(*ends).predict(case.test_predictions)
            for end, level in ((0, 1 - alpha / 2), (1, 1 - alpha + alpha / 2)):
                conditions = inputs.misranked(n, alpha / 2, int(np.ceil((n + 1) * level)))
                yield Cells(intervals[:, end], theirs[:, end, place], conditions, inputs.precision(case.targets))


@agrees
def test_cqr_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        x, test = (
            np.stack([centre - 0.7 * spread, centre + 0.9 * spread, centre], axis=1)
            for centre, spread in ((case.predictions, case.sigmas), (case.test_predictions, case.test_sigmas))
        )
        for confidence, alpha in levels(n):
            models = [Column(place) for place in range(3)]
            predictor = ConformalizedQuantileRegressor(models, confidence_level=confidence, prefit=True)
            predictor.conformalize(x, case.targets)
            one = cc.SplitRegressor(cc.CQR(), alpha=alpha)
            ends = [cc.SplitRegressor(cc.CQR(side=side), alpha=alpha / 2) for side in ("lower", "upper")]
            for level, quantiles in ((alpha, one), (alpha / 2, cc.AsymmetricRegressor(*ends))):
                if n < 1 / level:
                    continue  # MAPIE refuses the level
                theirs = predictor.predict_interval(test, symmetric_correction=quantiles is one)[1][..., 0]
                quantiles.calibrate(x[:, :2], case.targets)
                conditions = inputs.misranked(n, level, int(np.ceil((n + 1) * (1 - level))))
                yield Cells(quantiles.predict(test[:, :2]), theirs, conditions, inputs.precision(case.targets))


@agrees
def test_conformal_risk_control() -> Iterator[Cells]:
    for losses in inputs.losses():
        places = np.arange(float(losses.shape[1]))
        _, bounds = get_r_hat_plus(losses, places, "crc", None, None, None)
        for alpha in inputs.ALPHAS:
            theirs = find_best_predict_param(places, bounds, np.asarray([alpha]))
            index = cc.control_risk(losses, alpha=alpha)
            conditions = {
                NONE: index is None,
                AT_ALPHA: index is not None and np.abs(bounds[index] - alpha) < inputs.ROUNDING,
            }
            yield Cells(np.nan if index is None else index, theirs, conditions)


def hoeffding_bentkus(losses: np.ndarray, alpha: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the p-values of MAPIE, and where rounding changes ⌈N r⌉ by one."""
    mean, n = losses.mean(axis=0), len(losses)
    theirs = compute_hoeffding_bentkus_p_value(mean, n, alpha)[:, 0]
    excess = np.ceil(n * mean) - np.ceil(losses.sum(axis=0))
    return theirs, {ROUNDED_MEAN: excess > 0, ROUNDED_SUM: excess < 0}


@agrees
def test_risk_p_values() -> Iterator[Cells]:
    for losses in inputs.losses():
        for alpha in inputs.ALPHAS:
            theirs, rounded = hoeffding_bentkus(losses, alpha)
            yield Cells(cc.risk_p_values(losses, alpha=alpha), theirs, rounded, inputs.SUMS)


@agrees
def test_learn_then_test() -> Iterator[Cells]:
    for losses in inputs.losses():
        for alpha in inputs.ALPHAS:
            theirs, rounded = hoeffding_bentkus(losses, alpha)
            mask = np.isin(np.arange(losses.shape[1]), control_fwer(theirs, 0.1, "bonferroni"))
            yield Cells(cc.learn_then_test(losses, alpha=alpha, delta=0.1), mask, rounded)


@agrees
def test_risk_controlling_sets() -> Iterator[Cells]:
    for losses in inputs.losses():
        for alpha in inputs.ALPHAS:
            theirs, rounded = hoeffding_bentkus(losses, alpha)
            rejected = control_fwer(theirs[::-1], 0.1, "fixed_sequence")  # from the last threshold
            index = cc.control_risk(losses, alpha=alpha, delta=0.1)
            count = 0 if index is None else losses.shape[1] - index
            yield Cells(count, len(rejected), {name: mask.any() for name, mask in rounded.items()})


@agrees
def test_interval_metrics() -> Iterator[Cells]:
    for case in inputs.forecasts():
        ends = np.stack([case.test_predictions - case.test_sigmas, case.test_predictions + case.test_sigmas], axis=1)
        for order in (1, -1):
            intervals, targets = ends[:, ::order].astype(np.float64), case.test_targets.astype(np.float64)
            inside = cc.interval_metrics(intervals, targets, alpha=0.1)["coverage"]
            yield Cells(inside, regression_coverage_score(targets, intervals))
            for alpha in inputs.ALPHAS:
                score = cc.interval_score(intervals, targets, alpha=alpha).mean()
                theirs = regression_mwi_score(targets, intervals[..., None], 1 - alpha)
                yield Cells(score, theirs, {CROSSED: order < 0}, inputs.SUMS)
            width = cc.interval_metrics(intervals, targets, alpha=0.1)["width"]
            yield Cells(width, regression_mean_width_score(intervals[..., None]), {CROSSED: order < 0}, inputs.SUMS)


@agrees
def test_set_metrics() -> Iterator[Cells]:
    for case in inputs.rows(sizes=(150,)):
        inside = case.probs > 1 / case.probs.shape[1]
        yield Cells(cc.coverage(inside, case.labels).coverage, classification_coverage_score(case.labels, inside))
        strata = cc.size_coverage(inside, case.labels)
        yield Cells(strata.coverage, classification_ssc(case.labels, inside)[0])
