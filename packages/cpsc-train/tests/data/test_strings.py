"""Arrays of strings: as a list of them, in less memory."""

from __future__ import annotations

import copy
import zlib

import numpy as np
import pytest

from cpsc_train.data import CorruptionConfig, Noise, strings
from cpsc_train.data.media.tokens import HashedWords
from cpsc_train.data.strings import StringArray

WORDS = ["b", "", "zoë", "a\0", "a", "日本", "\ud800", "bb", "z" * 300]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(strings, "CHUNK", 4)


def test_it_is_a_sequence_as_a_list_is():
    array = StringArray.of(iter(WORDS))
    assert array == WORDS
    assert array != WORDS[:-1]
    assert array != [*WORDS[:-1], "y"]
    assert array != "".join(WORDS)
    assert [array[row] for row in range(-9, 9)] == [WORDS[row] for row in range(-9, 9)]
    assert array[np.int64(2)] == "zoë"
    assert array[1:6:2] == WORDS[1:6:2]
    assert (array.index("a"), "bb" in array, "c" in array) == (4, True, False)
    assert list(array.all_encoded(3, 8)) == [word.encode("utf-8", "surrogatepass") for word in WORDS[3:8]]
    assert copy.deepcopy(array) == array  # as a process that is started gets it
    for row in (9, -10):
        with pytest.raises(IndexError):
            array[row]
    assert StringArray.of(array) is array
    assert StringArray.of([]) == []


def test_rows_are_taken_and_found():
    array = StringArray.of(WORDS)
    order = np.random.default_rng(0).permutation(9)
    mixed = array.take(order)
    assert mixed == [WORDS[row] for row in order]
    np.testing.assert_array_equal(array.find(mixed), order)
    np.testing.assert_array_equal(array.find(StringArray.of(["zz", "a", "", "a" * 300])), [-1, 4, 1, -1])
    np.testing.assert_array_equal(StringArray.of([]).find(array), [-1] * 9)
    assert StringArray.concatenated([array, StringArray.of([]), mixed]) == [*array, *mixed]


def test_the_first_string_that_occurs_again_is_named():
    assert StringArray.of(WORDS).repeated() is None
    assert StringArray.of([]).repeated() is None
    assert StringArray.of(["d", "c", "ab", "cd", "cd", "ab", "d", "c"]).repeated() == "d"
    assert StringArray.of(["", "x", ""]).repeated() == ""


def test_numbers_are_as_wide_as_the_largest():
    for count in (0, 1, 10, 11, 101):
        assert StringArray.numbered(count) == [f"{row:0{len(str(count - 1))}d}" for row in range(count)]


def test_a_string_takes_its_bytes_and_four():
    array = StringArray.numbered(1000)
    assert array.content.nbytes + array.offsets.nbytes == 3 * 1000 + 4 * 1001


@pytest.mark.parametrize("text", ["a", "zoë", "\ud800"])
def test_samples_of_any_name_and_text_can_be_used(text):
    assert strings.crc32(text) == zlib.crc32(text.encode("utf-8", "surrogatepass"))
    assert Noise(modality="image", kind="gaussian", severity=1.0, share=0.5).hits([text]).shape == (1,)
    assert CorruptionConfig(labels="symmetric", label_share=0.5).wrong(np.array([0]), [text], 3).shape == (1,)
    assert HashedWords(3)(text).shape == (3,)
