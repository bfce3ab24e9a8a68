"""Agreement of TorchCP: scores, thresholds, sets, p-values, intervals and metrics."""

import math
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec

import inputs
import numpy as np
import ours
import peers
import pytest
from agreement import Cells, agrees

import conformal_core as cc

if find_spec("torchcp") is None:
    pytest.skip("torchcp is not installed", allow_module_level=True)

import torch

predictors, scores = (peers.torchcp_module(f"classification.{part}") for part in ("predictor", "score"))
regression, common = peers.torchcp_module("regression"), peers.torchcp_module("utils.common")

FEW, NEAR = "too few scores", "score within rounding of the threshold"
TIED, NO_MASS = "tied labels", "label without mass"
TOP, UNSORTED = "SAPS of the most probable label", "weights do not ascend with the scores"
SCORES = {
    "APS": (cc.APS(), {}),
    "RAPS": (cc.RAPS(penalty=0.0625, free_ranks=2), {"penalty": 0.0625, "kreg": 2}),
    "SAPS": (cc.SAPS(weight=0.125), {"weight": 0.125}),
}
RANDOMIZED = {
    "APS": cc.APS(randomized=True),
    "RAPS": cc.RAPS(penalty=0.0625, free_ranks=2, randomized=True),
    "SAPS": cc.SAPS(weight=0.125, randomized=True),
}


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    """Return copies, since the Margin score of TorchCP changes its input."""
    return [torch.from_numpy(array.copy()) for array in arrays]


def their_score(name: str, **options: object) -> object:
    return getattr(scores, name)(score_type="identity", **options)


def conditions_of(name: str, probs: np.ndarray) -> dict[str, np.ndarray]:
    return {
        TIED: (probs[..., None, :] == probs[..., None]).sum(axis=-1) > 1,
        NO_MASS: probs == 0,
        TOP: (name == "SAPS") & (probs == probs.max(axis=-1, keepdims=True)),
    }


def of_labels(conditions: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the conditions (N,) of the label of each row."""
    return {name: mask[np.arange(len(labels)), labels] for name, mask in conditions.items()}


@agrees
def test_thresholds() -> Iterator[Cells]:
    for case in inputs.scores(test=1):
        n = len(case.calibration)
        for alpha in inputs.alphas(n):
            theirs = float(common.calculate_conformal_value(*tensors(case.calibration), alpha))
            conditions = inputs.misranked(n, alpha, math.ceil((n + 1) * (1 - alpha)))
            yield Cells(cc.conformal_quantile(case.calibration, alpha=alpha), theirs, conditions)


@agrees
def test_exact_scores() -> Iterator[Cells]:
    for case in inputs.rows():
        for name, score in (("LAC", cc.LAC()), ("Margin", cc.Margin())):
            yield Cells(score(case.test), their_score(name)(*tensors(case.test)))
            theirs = their_score(name)(*tensors(case.probs, case.labels))
            yield Cells(score(case.probs, case.labels), theirs)


@agrees
def test_sorted_scores() -> Iterator[Cells]:
    for case in inputs.rows():
        for name, (score, options) in SCORES.items():
            theirs = their_score(name, randomized=False, **options)
            of_label = theirs(*tensors(case.probs, case.labels))
            conditions = of_labels(conditions_of(name, case.probs), case.labels)
            yield Cells(score(case.probs, case.labels), of_label, conditions, inputs.SINGLE)
            yield Cells(score(case.test), theirs(*tensors(case.test)), conditions_of(name, case.test), inputs.SINGLE)


@agrees
def test_randomized_scores() -> Iterator[Cells]:
    for case in inputs.rows(sizes=(20, 100)):
        for name, score in RANDOMIZED.items():
            theirs = their_score(name, **SCORES[name][1])
            torch.manual_seed(0)
            of_label = theirs(*tensors(case.probs, case.labels))
            torch.manual_seed(0)
            u = 1 - torch.rand(len(case.labels)).numpy().astype(case.probs.dtype)
            conditions = of_labels(conditions_of(name, case.probs), case.labels)
            yield Cells(score(case.probs, case.labels, u=u), of_label, conditions, inputs.SINGLE)
            torch.manual_seed(1)
            of_all = theirs(*tensors(case.test))
            torch.manual_seed(1)
            u = 1 - torch.rand(case.test.shape).numpy().astype(case.test.dtype)
            drawn = _with_a_draw_for_each_rank(score, case.test, u)
            yield Cells(drawn, of_all, conditions_of(name, case.test), inputs.SINGLE)


def _with_a_draw_for_each_rank(score: cc.ClassificationScore, probs: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Scores (m, K) where each label has the draw (m, K) of its rank; conformal-core draws once for a row."""
    ranks = np.argsort(np.argsort(-probs, axis=1, kind="stable"), axis=1)
    draws = np.take_along_axis(u, ranks, axis=1)
    labels = range(probs.shape[1])
    return np.stack([score(probs, np.full(len(probs), label), u=draws[:, label]) for label in labels], axis=1)


@agrees
def test_lac_sets() -> Iterator[Cells]:
    for case in inputs.rows():
        n = len(case.labels)
        for alpha in inputs.alphas(n):
            predictor = predictors.SplitPredictor(their_score("LAC"), alpha=alpha)
            predictor.calculate_threshold(*tensors(case.probs, case.labels), alpha)
            theirs = predictor.predict_with_logits(*tensors(case.test))
            conditions = inputs.misranked(n, alpha, math.ceil((n + 1) * (1 - alpha)))
            yield Cells(ours.sets(cc.LAC(), case, alpha), theirs, conditions)


@agrees
def test_sorted_sets() -> Iterator[Cells]:
    for case in inputs.rows(sizes=(19, 99)):
        for name, (score, options) in SCORES.items():
            predictor = predictors.SplitPredictor(their_score(name, randomized=False, **options))
            for alpha in (0.05, 0.1, 0.3):
                predictor.calculate_threshold(*tensors(case.probs, case.labels), alpha)
                qhat = float(predictor.q_hat)
                distances, rounded = np.abs(score(case.test) - qhat), (case.test * 256 % 1 != 0).any()
                theirs = predictor.predict_with_logits(*tensors(case.test))
                conditions = {NEAR: rounded & (distances <= inputs.SINGLE), **conditions_of(name, case.test)}
                yield Cells(score.sets(case.test, qhat), theirs, conditions)


@agrees
def test_p_values() -> Iterator[Cells]:
    for case in inputs.rows():
        narrow = inputs.Rows(case.probs.astype(np.float32), case.labels, case.test.astype(np.float32))
        predictor = predictors.SplitPredictor(their_score("LAC"), model=torch.nn.Identity(), device="cpu")
        predictor.calculate_threshold(*tensors(narrow.probs, narrow.labels), 0.1)
        expected = ours.p_values(cc.LAC(), narrow).astype(np.float32)  # TorchCP divides in single precision
        yield Cells(expected, predictor.predict_p(*tensors(narrow.test)))


@agrees
def test_thresholds_of_classes() -> Iterator[Cells]:
    for case in inputs.rows(test=1, sizes=(99, 150)):
        counts = np.bincount(case.labels, minlength=case.probs.shape[1])
        for alpha in inputs.ALPHAS:
            predictor = predictors.ClassConditionalPredictor(their_score("LAC"))
            predictor.calculate_threshold(*tensors(case.probs, case.labels), alpha)
            mondrian = cc.ClassConditionalClassifier(cc.LAC(), alpha=alpha)
            mondrian.calibrate(case.probs, case.labels)
            single = [int(torch.ceil((n + 1) * (1 - torch.tensor(alpha)))) for n in counts.tolist()]
            ranks = [inputs.misranked(n, alpha, rank) for n, rank in zip(counts.tolist(), single, strict=True)]
            conditions = {name: np.asarray([rank[name] for rank in ranks]) for name in ranks[0]}
            yield Cells(mondrian.qhat.astype(np.float32), predictor.q_hat, conditions)


@agrees
def test_weighted_sets() -> Iterator[Cells]:
    for case in inputs.rows(test=20, sizes=(19, 99)):
        rng = np.random.default_rng(0)
        odds, test_odds = (rng.integers(1, 8, size=count).astype(np.float32) for count in (len(case.labels), 20))
        probs, test = case.probs.astype(np.float32), case.test.astype(np.float32)
        for ordered in (False, True):  # if scores and weights ascend together, TorchCP keeps them together
            values = cc.LAC()(probs, case.labels)
            weights = np.sort(odds)[np.argsort(np.argsort(values, kind="stable"))] if ordered else odds
            for alpha in (0.1, 0.3):
                theirs = _weighted_sets(probs, case.labels, weights, test, test_odds, alpha)
                qhat = cc.weighted_conformal_quantile(values, weights, test_odds, alpha=alpha)
                yield Cells(cc.prediction_set(cc.LAC()(test), qhat), theirs, {UNSORTED: not ordered})


def _weighted_sets(  # noqa: PLR0917  # the parts of the two tables
    probs: np.ndarray, labels: np.ndarray, odds: np.ndarray, test: np.ndarray, test_odds: np.ndarray, alpha: float
) -> torch.Tensor:
    """Return the sets of TorchCP where a column beside the probabilities holds the likelihood ratio of the row."""

    class Probabilities(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :-1]

    class Ratio(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones(len(x)), x[:, -1]], dim=1)

    predictor = predictors.WeightedPredictor(
        their_score("LAC"),
        Probabilities(),
        alpha=alpha,
        image_encoder=torch.nn.Identity(),
        domain_classifier=Ratio(),
        device="cpu",
    )
    x, x_test = (torch.from_numpy(np.column_stack(part)) for part in ((probs, odds), (test, test_odds)))
    predictor.calibrate([(x, torch.from_numpy(labels))], alpha)
    predictor.evaluate([(x_test, torch.zeros(len(test), dtype=torch.int64))])
    return predictor.predict(x_test)


@agrees
def test_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        narrow = inputs.Forecasts(*(array.astype(np.float32) for array in case))
        x, targets, test = tensors(narrow.predictions[:, None], narrow.targets, narrow.test_predictions[:, None])
        for alpha in inputs.alphas(n):
            predictor = regression.SplitPredictor(regression.ABS(), torch.nn.Identity(), alpha=alpha, device="cpu")
            predictor.calibrate([(x, targets)])
            few = isinstance(predictor.q_hat, float)  # infinite, and predict then fails
            theirs = np.nan if few else predictor.predict(test)[:, 0].numpy()
            conditions = inputs.misranked(n, alpha, math.ceil((n + 1) * (1 - alpha)))
            yield Cells(ours.intervals(narrow, alpha, normalized=False), theirs, {FEW: few, **conditions})


@agrees
def test_predictive_distributions() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        narrow = inputs.Forecasts(*(array.astype(np.float32) for array in case))
        predictor = regression.ConformalPredictiveDistribution(model=torch.nn.Identity(), device="cpu")
        predictor.calibrate([tuple(tensors(narrow.predictions[:, None], narrow.targets))])
        theirs = np.sort(predictor.predict(*tensors(narrow.test_predictions[:, None])).numpy().reshape(-1, n), axis=1)
        system = ours.predictive_system(narrow, normalized=False)
        for k in {1, (n + 2) // 3, n}:
            quantiles = system.quantile(narrow.test_predictions, Fraction(k, n + 1))
            yield Cells(quantiles, theirs[:, k - 1], {}, inputs.SINGLE)


@agrees
def test_cqr_intervals() -> Iterator[Cells]:
    for case in inputs.forecasts():
        n = len(case.targets)
        ends, test = (
            np.stack([centre - 0.7 * spread, centre + 0.9 * spread], axis=1).astype(np.float32)
            for centre, spread in ((case.predictions, case.sigmas), (case.test_predictions, case.test_sigmas))
        )
        targets = case.targets.astype(np.float32)
        for alpha in inputs.alphas(n):
            predictor = regression.SplitPredictor(regression.CQR(), torch.nn.Identity(), alpha=alpha, device="cpu")
            predictor.calibrate([tuple(tensors(ends, targets))])
            few = isinstance(predictor.q_hat, float)
            theirs = np.nan if few else predictor.predict(*tensors(test))[:, 0].numpy()
            quantiles = cc.SplitRegressor(cc.CQR(), alpha=alpha)
            quantiles.calibrate(ends, targets)
            conditions = inputs.misranked(n, alpha, math.ceil((n + 1) * (1 - alpha)))
            yield Cells(quantiles.predict(test), theirs, {FEW: few, **conditions})


@agrees
def test_metrics() -> Iterator[Cells]:
    metrics = peers.torchcp_module("classification.utils.metrics")
    for case in inputs.rows():
        inside = case.probs > 1 / case.probs.shape[1]
        sets, labels = tensors(inside, case.labels)
        yield Cells(cc.coverage(inside, case.labels).coverage, metrics.coverage_rate(sets, labels), {}, inputs.SINGLE)
        yield Cells(cc.set_size(inside).mean(), metrics.average_size(sets), {}, inputs.SINGLE)
    measures = peers.torchcp_module("regression.utils.metrics")
    for case in inputs.forecasts():
        ends = np.stack([case.test_predictions - case.test_sigmas, case.test_predictions + case.test_sigmas], axis=1)
        covered = cc.interval_metrics(ends, case.test_targets, alpha=0.1)["coverage"]
        yield Cells(covered, measures.coverage_rate(*tensors(ends, case.test_targets)), {}, inputs.SINGLE)
