"""Figures of rows that are divided among processes, compared with those of all rows in one."""

import numpy as np
import pytest
import torch

from cpsc_train.evaluation import Predictions, Share, Softmax, Thresholds, describe
from cpsc_train.evaluation import predictions as ranking
from cpsc_train.evaluation import probabilities as parts
from cpsc_train.training.division import Division
from cpsc_train.training.results import _on_first

CLASSES = 11


def predictions(rows, seed, *, ties=False, typical=False):
    """Rows of two modalities, of which some lack ``a``."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 2, rows)  # the last two do not occur
    logits = {head: rng.normal(size=(rows, CLASSES)) + 2 * np.eye(CLASSES)[labels] for head in ("a", "b", "fused")}
    probabilities = {head: Softmax((z.round() if ties else z).astype(np.float32)) for head, z in logits.items()}
    features = {m: rng.normal(size=(rows, 3)).astype(np.float32) for m in "ab"}
    present = {"a": np.arange(rows) % 4 > 0}
    weights = {m: np.where(rng.random(rows) < 0.3, rng.random(rows), 1.0) for m in "ab"} if typical else {}
    return Predictions(labels, probabilities, weights, weights, features, present)


def divided(process, rows):
    share = Division(process, len(rows.labels), torch.device("cpu"))
    probabilities = {head: Softmax(share.of(p.logits)) for head, p in rows.probabilities.items()}
    columns = [
        {name: share.of(of) for name, of in some.items()}
        for some in (rows.weights, rows.typicality, rows.features, rows.present)
    ]
    return Predictions(share.of(rows.labels), probabilities, *columns, share=share)


@pytest.mark.parametrize(("rows", "ties", "typical"), [(101, False, False), (64, True, True), (2, False, False)])
def test_figures_are_those_of_one_process(job, rows, ties, typical, monkeypatch):
    monkeypatch.setattr(parts, "CELLS", 3 * CLASSES)
    monkeypatch.setattr(ranking, "RANKED", 2 * rows)
    calibration, test = (predictions(n, seed, ties=ties, typical=typical) for n, seed in ((150, 0), (rows, 1)))
    expected = describe(test, Thresholds(lambda absent: [calibration], alpha=0.2))

    def work(process):
        thresholds = Thresholds(lambda absent: [divided(process, calibration)], alpha=0.2)
        return describe(divided(process, test), thresholds)

    for figures in job.run(work):
        assert figures == expected
    # Features are not exchanged, and of a matrix of probabilities, columns of two classes at most.
    assert max(job.sent) <= max(-(-150 // job.world), 2 * -(-rows // job.world)) * 2


def test_figures_do_not_depend_on_the_size_of_parts(monkeypatch):
    calibration, test = predictions(150, 0), predictions(90, 1)
    figures = []
    for cells, ranked in ((10**6, 10**6), (1, 1)):
        monkeypatch.setattr(parts, "CELLS", cells)
        monkeypatch.setattr(ranking, "RANKED", ranked)
        figures.append(describe(predictions(90, 1), Thresholds(lambda absent: [calibration], alpha=0.2)))
    assert figures[0] == figures[1]
    dense = Predictions(test.labels, {h: np.asarray(p) for h, p in test.probabilities.items()}, present=test.present)
    assert describe(dense, Thresholds(lambda absent: [calibration], alpha=0.2))["accuracy"] == figures[0]["accuracy"]


def test_softmax_is_that_of_torch():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 40
    probabilities, expected = Softmax(logits.numpy()), logits.double().softmax(-1).numpy()
    np.testing.assert_allclose(np.asarray(probabilities), expected, rtol=1e-14)
    np.testing.assert_array_equal(probabilities[:, np.array([4, 2])], probabilities[:][:, [4, 2]])
    assert np.asarray(probabilities, np.float32).dtype == np.float32


@pytest.mark.parametrize(("rows", "most"), [(23, None), (23, 10), (2, 10), (1, None)])
def test_the_first_process_alone_receives_the_rows_to_save(job, rows, most, monkeypatch):
    monkeypatch.setattr(parts, "CELLS", 5 * CLASSES)
    test = predictions(rows, 0)

    def work(process):
        mine = divided(process, test)
        return _on_first(mine, mine.probabilities["fused"]), _on_first(mine, mine.features["a"], most)

    (probabilities, features), *others = job.run(work)
    np.testing.assert_array_equal(probabilities, np.asarray(test.probabilities["fused"]).astype(np.float32))
    np.testing.assert_array_equal(features, test.features["a"][:most])
    assert all(len(array) == 0 for arrays in others for array in arrays)
    assert max(job.sent) <= 5 * CLASSES
    alone = _on_first(test, test.features["a"], most)
    np.testing.assert_array_equal(alone, features)


def test_one_process_holds_all_rows():
    share, values = Share(), np.arange(3.0)
    assert (share.rank, share.world) == (0, 1)
    for same in (share.of(values), share.gather(values), share.gather_to(0, values, 0, 3), share.sum(values)):
        assert same is values
