"""Estimators of scikit-learn with prediction sets and intervals."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from conformal_core import APS, CQR, LAC, AbsoluteResidual, SplitClassifier, SplitRegressor
from conformal_core.sklearn import ConformalClassifier, ConformalRegressor

NAMES = np.asarray(["wren", "owl", "kite"])


@pytest.fixture(scope="module")
def birds():
    X, y = make_classification(1200, n_informative=4, n_classes=3, class_sep=0.6, random_state=0)
    return X, NAMES[y]


@pytest.mark.filterwarnings("ignore")  # of tiny data: too few rows for alpha, and no convergence
@parametrize_with_checks([ConformalClassifier(LogisticRegression()), ConformalRegressor(Ridge())])
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_sets_are_those_of_split_prediction_on_the_held_out_rows(birds):
    X, y = birds
    model = ConformalClassifier(LogisticRegression(), nonconformity=APS(), alpha=0.2, random_state=3).fit(X, y)
    X_fit, X_calibration, y_fit, y_calibration = train_test_split(X, y, test_size=0.25, random_state=3)
    inner = LogisticRegression().fit(X_fit, y_fit)
    split = SplitClassifier(APS(), alpha=0.2)
    split.calibrate(inner.predict_proba(X_calibration), np.searchsorted(inner.classes_, y_calibration))
    np.testing.assert_array_equal(model.predict_set(X), split.predict(inner.predict_proba(X)))
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))
    assert list(model.classes_) == sorted(NAMES)


def test_intervals_are_those_of_split_prediction_on_the_held_out_rows():
    X, y = make_regression(400, noise=5, random_state=0)
    model = ConformalRegressor(Ridge(), alpha=0.1, calibration_size=100, random_state=3).fit(X, y)
    X_fit, X_calibration, y_fit, y_calibration = train_test_split(X, y, test_size=100, random_state=3)
    inner = Ridge().fit(X_fit, y_fit)
    split = SplitRegressor(AbsoluteResidual(), alpha=0.1)
    split.calibrate(inner.predict(X_calibration), y_calibration)
    np.testing.assert_array_equal(model.predict_interval(X), split.predict(inner.predict(X)))


def test_every_row_calibrates_a_frozen_model(birds):
    X, y = birds
    inner = LogisticRegression().fit(X[:400], y[:400])
    model = ConformalClassifier(FrozenEstimator(inner), alpha=0.1).fit(X[400:800], y[400:800])
    assert len(model.predictor_.state_dict()["memory"]["scores"]) == 400
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))
    covered = model.predict_set(X[800:])[np.arange(400), np.searchsorted(model.classes_, y[800:])].mean()
    assert 0.84 < covered < 0.96
    with pytest.raises(ValueError, match=r"y must hold classes of the estimator, such as kite, got 7"):
        model.fit(X, np.full(len(X), 7))


def test_missing_class_names_are_refused(birds):
    X, y = birds
    with pytest.raises(ValueError, match="contains NaN"):
        ConformalClassifier(LogisticRegression()).fit(X, np.asarray([*y[:-1], np.nan], dtype=object))


def test_a_class_of_calibration_rows_alone_is_a_column_without_probability(birds):
    X, y = birds
    inner = LogisticRegression().fit(X[y != "owl"], y[y != "owl"])
    model = ConformalClassifier(FrozenEstimator(inner), alpha=0.1).fit(X, y)
    assert list(model.classes_) == ["kite", "owl", "wren"]
    assert not model.predict_proba(X)[:, 1].any()
    np.testing.assert_array_equal(model.predict_proba(X)[:, [0, 2]], inner.predict_proba(X))
    assert model.predict_set(X).all()  # more than a tenth of the rows have the score 1


def test_pipelines_searches_and_cross_validation(birds):
    X, y = birds
    inner = make_pipeline(StandardScaler(), LogisticRegression())
    model = ConformalClassifier(inner, random_state=0)
    assert cross_val_score(model, X, y, cv=3).min() > 0.5  # accuracy
    assert cross_val_score(model, X, y, cv=3, scoring=_negative_size).mean() > -3

    grid = {"estimator__logisticregression__C": [1e-4, 1.0], "nonconformity": [LAC(), APS()]}
    search = GridSearchCV(model, grid, scoring=_negative_size, cv=3).fit(X, y)
    assert search.best_params_ == {"estimator__logisticregression__C": 1.0, "nonconformity": LAC()}

    last = make_pipeline(StandardScaler(), ConformalClassifier(LogisticRegression(), random_state=0)).fit(X, y)
    assert last[-1].predict_set(last[:-1].transform(X)).shape == (1200, 3)
    assert last.score(X, y) == pytest.approx(np.mean(last.predict(X) == y))


def _negative_size(model, X, y):
    return -model.predict_set(X).sum(1).mean()


def test_tables_keep_their_column_names():
    pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = ConformalClassifier(LogisticRegression(max_iter=1000), random_state=0).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.predict_set(X).shape == (150, 3)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_set(X.rename(columns=str.upper))


class Quantiles(RegressorMixin, BaseEstimator):
    """Lower and upper quantile, (N, 2)."""

    def fit(self, X, y):
        self.models_ = [QuantileRegressor(quantile=q, alpha=0).fit(X, y) for q in (0.1, 0.9)]
        return self

    def predict(self, X):
        return np.stack([model.predict(X) for model in self.models_], axis=1)


def test_quantiles_are_conformalized():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (600, 1))
    y = X[:, 0] * (2 + rng.normal(size=600))
    model = ConformalRegressor(Quantiles(), nonconformity=CQR(), alpha=0.2, random_state=0).fit(X[:400], y[:400])
    low, high = model.predict_interval(X[400:]).T
    assert 0.7 < ((low <= y[400:]) & (y[400:] <= high)).mean() < 0.9
    np.testing.assert_allclose(model.predict(X), model.estimator_.predict(X).mean(1))
    narrow, wide = model.predict_interval([[0.1], [0.9]])
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_clones_pickles_and_empty_sets(birds):
    X, y = birds
    model = ConformalClassifier(LogisticRegression(), alpha=0.7, random_state=0).fit(X, y)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(again.predict_set(X), model.predict_set(X))
    assert not hasattr(clone(model), "classes_")
    assert clone(model).get_params()["alpha"] == 0.7
    empty = ~model.predict_set(X).any(1)
    assert empty.any()
    assert (model.predict_set(X, nonempty=True)[empty].argmax(1) == model.predict_proba(X)[empty].argmax(1)).all()


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (ConformalClassifier(LogisticRegression(), alpha=1.5), ValueError, r"alpha must lie in \(0, 1\), got 1.5"),
        (ConformalClassifier(LogisticRegression(), nonconformity=CQR()), TypeError, "score must have the method sets"),
        (ConformalClassifier(LinearSVC()), AttributeError, "must have predict_proba, got LinearSVC: wrap it in Calib"),
        (ConformalRegressor(LinearRegression(), nonconformity=LAC()), TypeError, "must have the method interval"),
    ],
)
def test_unusable_settings_are_refused_before_the_fit(birds, model, error, words):
    with pytest.raises(error, match=words):
        model.fit(birds[0], np.arange(1200) % 2)
    assert not hasattr(model, "estimator_")


def test_the_cure_for_a_model_without_probabilities_works(birds):
    model = ConformalClassifier(CalibratedClassifierCV(LinearSVC()), random_state=0).fit(*birds)
    assert model.predict_set(birds[0]).any(1).mean() > 0.8


def test_a_missing_scikit_learn_is_named():
    code = "import sys; sys.modules['sklearn.base'] = None; import conformal_core.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs scikit-learn 1.6 or newer: pip install 'conformal-core[sklearn]'" in done.stderr


def test_one_of_alpha_and_confidence_is_given_and_the_default_is_a_tenth():
    X, y = make_classification(200, random_state=0)
    models = [ConformalClassifier(LogisticRegression(), random_state=0, **kw) for kw in ({}, {"confidence": "0.9"})]
    sets = [model.fit(X, y).predict_set(X) for model in models]
    nested = ConformalClassifier(LogisticRegression(), random_state=0, alpha=[0.1, 0.5]).fit(X, y).predict_set(X)
    for one in (*sets, nested[0]):
        np.testing.assert_array_equal(one, sets[0])
    assert (nested[1] <= nested[0]).all()
    with pytest.raises(TypeError, match="exactly one of alpha and confidence must be given, got both"):
        ConformalClassifier(LogisticRegression(), alpha=0.1, confidence=0.9).fit(X, y)
