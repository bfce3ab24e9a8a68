import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.data import SplitConfig, Splits
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.errors import UserError

labels_of = st.lists(st.integers(10, 60), min_size=1, max_size=5).map(
    lambda counts: np.repeat(np.arange(len(counts)), counts)
)


@given(labels_of, st.integers(0, 2**32), st.sampled_from([(0.1, 0.1, 0.2), (0.2, 0.3, 0.1)]))
def test_parts_are_disjoint_complete_and_stratified(labels, seed, shares):
    config = SplitConfig(calibration=shares[0], validation=shares[1], test=shares[2], seed=seed)
    splits = Splits.draw(labels, config)
    everything = np.concatenate([splits.train, splits.calibration, splits.validation, splits.test])
    assert sorted(everything) == list(range(len(labels)))
    for part, share in zip((splits.calibration, splits.validation, splits.test), shares, strict=True):
        for label, count in enumerate(np.bincount(labels)):
            assert abs((labels[part] == label).sum() - share * count) <= 1


def test_the_seed_decides():
    labels = np.repeat([0, 1], 50)
    first, again, other = (Splits.draw(labels, SplitConfig(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    assert set(first.test) != set(other.test)


def test_a_class_that_cannot_be_in_every_part_is_refused():
    with pytest.raises(UserError, match="class 1 has 3 rows"):
        Splits.draw(np.array([0] * 50 + [1] * 3), SplitConfig())


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"test": 0.0}, r"splits\.test must lie in \(0, 1\), got 0"),
        ({"test": 0.9}, "must leave a share for training"),
    ],
)
def test_bad_shares_are_refused(shares, message):
    with pytest.raises(UserError, match=message):
        SplitConfig(**shares)


def test_saved_by_id_and_read_back(tmp_path, small_file):
    dataset = HandwrittenConfig(file=str(small_file)).open()
    splits = Splits.draw(dataset.labels, SplitConfig(calibration=0.2))
    splits.save(tmp_path / "splits.json", dataset)
    loaded = Splits.load(tmp_path / "splits.json", dataset)
    assert loaded.sizes == splits.sizes
    np.testing.assert_array_equal(loaded.test, splits.test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named["test"].append("nobody"), "id 'nobody' of test is not in the data set"),
        (lambda named: named["test"].append(named["train"][0]), "is in both train and test"),
        (lambda named: named.pop("test"), "is not a readable list of splits"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, small_file, change, message):
    dataset = HandwrittenConfig(file=str(small_file)).open()
    path = tmp_path / "splits.json"
    Splits.draw(dataset.labels, SplitConfig(calibration=0.2)).save(path, dataset)
    named = json.loads(path.read_text())
    change(named)
    path.write_text(json.dumps(named))
    with pytest.raises(UserError, match=message):
        Splits.load(path, dataset)
