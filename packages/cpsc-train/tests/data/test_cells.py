"""Cells of a table of samples."""

from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data.storage.tables import modality_columns, numbers, read_cell
from cpsc_train.errors import DataError

HERE = Path("tables")


@pytest.mark.parametrize("kind", ["image", "sound", "video", "text", "vector"])
@pytest.mark.parametrize("value", ["", "  ", None])
def test_an_empty_cell_is_a_missing_modality(kind, value):
    assert read_cell(kind, value, HERE) is None


def test_paths_are_relative_to_the_table():
    assert read_cell("image", "a/b.png", HERE) == HERE / "a/b.png"
    assert read_cell("sound", "/elsewhere/a.wav", HERE) == Path("/elsewhere/a.wav")


@pytest.mark.parametrize("value", ["1 2.5 -3e-1", "1, 2.5, -0.3", "1;2.5;-.3", [1, 2.5, -0.3]])
@pytest.mark.parametrize("kind", ["vector", "image"])
def test_numbers_are_a_vector(kind, value):
    np.testing.assert_array_equal(read_cell(kind, value, HERE), np.array([1, 2.5, -0.3], np.float32))


def test_a_text_of_numbers_stays_a_text():
    assert read_cell("text", "1 2", HERE) == "1 2"


def test_a_file_may_be_named_by_a_number():
    assert read_cell("image", "17", HERE) == HERE / "17"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("vector", "1 two", "must hold numbers separated by spaces, got '1 two'"),
        ("image", "a\0b", "is not a valid file name"),
        ("image", "n" * 300, "is not a valid file name"),
        ("vector", [1, "2"], "must hold text, a number or a list of numbers"),
        ("vector", True, "must hold text, a number or a list of numbers"),
        ("text", 3, "must hold text, got '3'"),
    ],
)
def test_bad_cells_are_refused(kind, value, message):
    with pytest.raises(DataError, match=message):
        read_cell(kind, value, HERE)


def test_an_infinite_number_is_left_to_the_check_of_values():
    assert np.isinf(numbers("1e60 2")[0])


def test_numbered_columns_are_one_vector():
    header = ["id", "photo", "a_10", "a_9", "b2", "label", "split", "group"]
    assert modality_columns(header) == {"photo": ["photo"], "a": ["a_9", "a_10"], "b2": ["b2"]}
