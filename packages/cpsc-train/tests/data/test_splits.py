import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.data import SplitConfig, Splits
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.data.saved_splits import read_ids
from cpsc_train.data.splits import by_group, rows_by_part
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
    with pytest.raises(
        UserError, match="class 1 has 3 rows: too few for train, calibration, validation and test: add rows"
    ):
        Splits.draw(np.array([0] * 50 + [1] * 3), SplitConfig())


def test_a_number_of_calibration_rows_is_taken_from_each_class_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    splits = Splits.draw(labels, SplitConfig(calibration=20, validation=0.25, test=0.25))
    assert splits.sizes == {"train": 40, "calibration": 20, "validation": 20, "test": 20}
    assert np.bincount(labels[splits.calibration]).tolist() == [12, 6, 2]
    assert np.bincount(labels[splits.test]).tolist() == [12, 6, 2]
    everything = np.concatenate([splits.train, splits.calibration, splits.validation, splits.test])
    assert sorted(everything) == list(range(100))
    with pytest.raises(UserError, match=r"splits\.calibration must be less than the 100 rows there are, got 100"):
        Splits.draw(labels, SplitConfig(calibration=100))


def test_parts_that_the_data_set_names_are_taken_and_the_others_drawn_from_what_is_left():
    labels = np.arange(100) % 2
    test = np.arange(99, 79, -1)
    splits = Splits.draw(labels, SplitConfig(calibration=0.25, validation=0.25), {"test": test})
    assert splits.test.tolist() == list(range(80, 100))
    assert splits.sizes == {"train": 40, "calibration": 20, "validation": 20, "test": 20}
    assert sorted(np.concatenate([splits.train, splits.calibration, splits.validation])) == list(range(80))
    own = {"test": test, "train": np.arange(40)}  # rows 40 to 79 are in no part, and stay out
    assert Splits.draw(labels, SplitConfig(calibration=0.25, validation=0.25), own).sizes["train"] == 20
    ours = Splits.draw(labels, SplitConfig(official=False), own)
    assert ours.sizes == {"train": 60, "calibration": 10, "validation": 10, "test": 20}
    with pytest.raises(UserError, match="there are no samples to train on"):
        Splits.draw(labels, SplitConfig(), {"test": np.arange(100)})


def test_a_data_set_is_divided_by_its_labels_and_the_parts_that_it_names(small_file):
    dataset = HandwrittenConfig(file=str(small_file)).open()
    dataset.parts = {"test": np.arange(0, len(dataset), 4)}
    config = SplitConfig(calibration=0.2)
    found, expected = Splits.of(dataset, config), Splits.draw(dataset.labels, config, dataset.parts)
    assert found.test.tolist() == dataset.parts["test"].tolist()
    for part in found.sizes:
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_rows_of_a_part_are_in_order_and_drawn_at_random():
    splits = Splits.draw(np.zeros(100, dtype=np.int64), SplitConfig())
    for rows in (splits.train, splits.calibration, splits.validation, splits.test):
        assert (np.diff(rows) > 0).all()
    assert splits.test.max() - splits.test.min() > 50


@pytest.mark.parametrize(("groups", "tested", "validated"), [(20, 4, 2), (21, 5, 3), (3, 1, 1), (1, 1, 0)])
def test_a_fifth_of_the_groups_is_for_test_and_a_tenth_for_validation(groups, tested, validated):
    names = [f"g{i % groups}" for i in range(2 * groups)]
    parts = by_group(names, seed=0)
    held = {part: {name for name, one in zip(names, parts, strict=True) if one == part} for part in set(parts)}
    assert {part: len(found) for part, found in held.items()} == {
        part: count
        for part, count in (("train", groups - tested - validated), ("validation", validated), ("test", tested))
        if count
    }
    assert by_group(names, seed=0) == parts
    assert by_group(names[::-1], seed=0) == parts[::-1]
    assert groups < 20 or by_group(names, seed=1) != parts


def test_rows_by_part():
    found = rows_by_part(["test", "train", "test"])
    assert {part: rows.tolist() for part, rows in found.items()} == {"test": [0, 2], "train": [1]}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"test": 0.0}, r"splits\.test must lie in \(0, 1\), got 0"),
        ({"validation": 1.0}, r"splits\.validation must lie in \(0, 1\), got 1"),
        ({"calibration": 0.0}, r"splits\.calibration must lie in \(0, 1\), or be a whole number of rows, got 0"),
        ({"calibration": 1.5}, r"splits\.calibration must lie in \(0, 1\), or be a whole number of rows, got 1.5"),
        ({"calibration": 0.5, "validation": 0.25, "test": 0.25}, "training, got 1 for the other three"),
        ({"test": 0.9}, "must leave a fraction for training"),
    ],
)
def test_bad_shares_are_refused(shares, message):
    with pytest.raises(UserError, match=message):
        SplitConfig(**shares)


@pytest.mark.parametrize("name", ["splits.json", "splits.npz"])
def test_saved_by_id_and_read_back(tmp_path, small_file, name):
    dataset = HandwrittenConfig(file=str(small_file)).open()
    splits = Splits.draw(dataset.labels, SplitConfig(calibration=0.2))
    splits.save(tmp_path / name, dataset)
    loaded = Splits.load(tmp_path / name, dataset)
    assert loaded.sizes == splits.sizes
    for part in splits.sizes:
        np.testing.assert_array_equal(getattr(loaded, part), getattr(splits, part))
    named = SplitConfig(file=str(tmp_path / name), seed=5)
    np.testing.assert_array_equal(Splits.of(dataset, named).test, splits.test)
    assert read_ids(tmp_path / name, "test") == [dataset.ids[row] for row in splits.test]
    dataset.ids = ["another", *reversed(dataset.ids)]  # rows are found by id in data that was extended or sorted anew
    moved = Splits.load(tmp_path / name, dataset)
    for part in splits.sizes:
        np.testing.assert_array_equal(getattr(moved, part), len(dataset) - 1 - getattr(splits, part))
    dataset.ids = [name for name in dataset.ids if name != "0007"]
    with pytest.raises(UserError, match=rf"{name}: id '0007' of \w+ is not in the data set$"):
        Splits.load(tmp_path / name, dataset)


def test_a_file_for_people_is_text(tmp_path, small_file):
    dataset = HandwrittenConfig(file=str(small_file)).open()
    splits = Splits.draw(dataset.labels, SplitConfig(calibration=0.2))
    splits.save(tmp_path / "splits.json", dataset)
    assert json.loads((tmp_path / "splits.json").read_text())["test"] == list(dataset.ids_of(splits.test))


DAMAGED = [
    ("train", lambda rows: rows.astype(float), "train must hold row numbers, got float64"),
    ("train", lambda rows: rows[:, None], r"train must hold row numbers, got uint8 of shape"),
    ("test", lambda rows: rows.astype(int) - 500, "test must hold rows below"),
    ("test", lambda rows: np.append(rows, 10**6), "test must hold rows below"),
    ("test", lambda rows: rows[:0], "test lists nothing"),
    ("test", lambda rows: np.append(rows, rows[:1]), "is listed twice in test"),
    ("ids", lambda content: content[:-1], "must add up to the"),
    ("ids", lambda content: content + np.uint8(200), "invalid"),
    ("ids.lengths", lambda lengths: lengths[1:], "must add up to the"),
    ("ids.lengths", lambda lengths: lengths.astype(np.int64), "must be unsigned integers, got int64"),
    ("ids.lengths", None, r"has no array 'ids\.lengths'"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGED)
def test_damaged_arrays_are_refused(tmp_path, small_file, name, change, message):
    dataset, path = HandwrittenConfig(file=str(small_file)).open(), tmp_path / "splits.npz"
    Splits.draw(dataset.labels, SplitConfig(calibration=0.2)).save(path, dataset)
    with np.load(path) as file:
        arrays = dict(file)
    array = arrays.pop(name)
    np.savez(path, **arrays, **({name: change(array)} if change else {}))
    with pytest.raises(UserError, match=message):
        Splits.load(path, dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named["test"].append("nobody"), "id 'nobody' of test is not in the data set"),
        (lambda named: named["test"].append(named["train"][0]), "is in both train and test"),
        (lambda named: named["calibration"].insert(0, 7), "calibration must list ids in quotation marks, got 7"),
        (lambda named: named.update(test="0007"), "test must be a list of ids"),
        (lambda named: named.update(validation=[]), "validation lists nothing"),
        (
            lambda named: named.pop("test"),
            "must be a table with a list of ids for each of train, calibration, validation, test",
        ),
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


def test_groups_are_divided_whole_and_classes_in_proportion():
    generator = np.random.default_rng(0)
    groups = np.sort(generator.integers(0, 60, 600))
    labels = generator.integers(0, 3, 600)
    splits = Splits.draw(labels, SplitConfig(), groups=[f"speaker {group}" for group in groups])
    parts = vars(splits)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(600))
    assert sum(len(set(groups[rows])) for rows in parts.values()) == len(set(groups))
    for rows, wanted in zip(parts.values(), (0.6, 0.1, 0.1, 0.2), strict=True):
        np.testing.assert_allclose(np.bincount(labels[rows]) / np.bincount(labels), wanted, atol=0.05)
    test = np.flatnonzero(groups < 10)
    drawn = Splits.draw(labels, SplitConfig(calibration=100), {"test": test}, groups=list(map(str, groups)))
    np.testing.assert_array_equal(drawn.test, test)
    assert abs(len(drawn.calibration) - 100) <= 12


@pytest.mark.parametrize(
    ("groups", "message"),
    [("a" * 60 + "b" * 60, "too few groups to divide: of 2, "), ("a" * 120, "too few groups to divide: of 1, ")],
)
def test_too_few_groups_are_refused(groups, message):
    with pytest.raises(UserError, match=message):
        Splits.draw(np.arange(120) % 2, SplitConfig(), groups=list(groups))
