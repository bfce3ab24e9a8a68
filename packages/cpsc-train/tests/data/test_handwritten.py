import numpy as np
import pytest

from cpsc_train.data import Preprocessing
from cpsc_train.data.adapters.handwritten import VIEWS, HandwrittenConfig
from cpsc_train.errors import UserError


@pytest.fixture
def arrays(small_file):
    with np.load(small_file) as archive:
        return {name: archive[name] for name in archive.files}


def test_the_embedded_data_is_whole():
    dataset = HandwrittenConfig(modalities=tuple(VIEWS)).open()
    assert len(dataset) == 2000
    np.testing.assert_array_equal(np.bincount(dataset.labels), [200] * 10)
    assert len(set(dataset.ids)) == 2000
    for name, modality in dataset.modalities.items():
        values = dataset.read(name, np.array([0, 1999]))
        assert values.shape == (2, *modality.shape)
        assert values.dtype == np.float32


def test_an_image_is_the_digit_it_says(small_file):
    """A zero is dark in the middle and bright around it; a transposed or reshaped image would not be."""
    dataset = HandwrittenConfig(file=str(small_file)).open()
    zeros = dataset.read("pix", np.flatnonzero(dataset.labels == 0)).mean(0)[0]
    assert zeros[6:10, 6:9].mean() < 1.5
    assert zeros[7:9, :5].max() > 4
    assert zeros[7:9, 10:].max() > 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["fou"].__setitem__((17, 3), np.nan), r"fou holds nan at row 17, column 3 \(1 bad"),
        (lambda a: a["pix"].__setitem__((0, 0), np.inf), "pix holds inf at row 0, column 0"),
        (lambda a: a.pop("fou"), "has no array 'fou'"),
        (lambda a: a.update(fou=a["fou"][:-1]), r"fou must have shape \(200, 76\), got \(199, 76\)"),
        (lambda a: a.update(label=a["label"].astype(float)), "label must hold one integer a row"),
        (lambda a: a["label"].__setitem__(5, 12), "label at row 5 must lie in 0…9, got 12"),
    ],
)
def test_bad_data_is_refused_by_file_and_row(tmp_path, arrays, change, message):
    change(arrays)
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as error:
        HandwrittenConfig(file=str(path)).open()
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a readable"):
        HandwrittenConfig(file=str(path)).open()


def test_a_single_array_is_no_archive(tmp_path):
    path = tmp_path / "one.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"one\.npz: is not a readable"):
        HandwrittenConfig(file=str(path)).open()


def test_a_damaged_archive_is_named(tmp_path, small_file):
    whole = small_file.read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.npz: is not a readable"):
        HandwrittenConfig(file=str(path)).open()


@pytest.mark.parametrize("modalities", [("pix",), ("pix", "pix"), ("pix", "fuo"), ()])
def test_a_bad_choice_of_modalities_is_refused(modalities):
    with pytest.raises(UserError):
        HandwrittenConfig(modalities=modalities)


def test_standardisation_knows_the_training_rows_only(small_file):
    dataset = HandwrittenConfig(modalities=("pix", "fou"), file=str(small_file)).open()
    rows = np.arange(0, 200, 2)
    preprocessing = Preprocessing(dataset, rows)
    for name, axes in (("pix", (0, 1, 2, 3)), ("fou", (0,))):
        values = preprocessing(name, dataset.read(name, rows))
        np.testing.assert_allclose(values.mean(axes, dtype=np.float64), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axes, dtype=np.float64), 1, atol=1e-4)
    assert abs(preprocessing("fou", dataset.read("fou", np.arange(1, 200, 2))).mean(0)).max() > 1e-3


def test_a_constant_feature_is_not_divided_by_zero(tmp_path, arrays):
    arrays["fou"][:, 0] = 7.0
    path = tmp_path / "constant.npz"
    np.savez(path, **arrays)
    dataset = HandwrittenConfig(file=str(path)).open()
    rows = np.arange(200)
    assert (Preprocessing(dataset, rows)("fou", dataset.read("fou", rows))[:, 0] == 0).all()
