"""Index of packed files: the folders and files of a disk, and refusal of a damaged one."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

import numpy as np
import pytest

from cpsc_train.data.storage.index import Extent, Index
from cpsc_train.data.storage.packed import Packed, Store, open_packed
from cpsc_train.errors import UserError

FILES = ["a.txt", "a/x", "a/b/c", "a-b/c", "zoë/日本.png", "zoë/z", "z", "b", "b/c", "c/d/e/f", "c/d/e0"]
"""The characters before and after the slash have an order of their own, and b is both a file and a folder."""


def written(index):
    """Return the content of the file of an index."""
    index.write(file := io.BytesIO())
    return file.getvalue()


@pytest.fixture
def index():
    parts = [
        Index.of(f"{n}.tar", {path: (1000 * row, 300 + row, 2**32 - 1 - row) for row, path in enumerate(FILES[n::3])})
        for n in range(3)
    ]
    return Index.parse(written(Index.merged(parts)))


def test_every_file_is_found(index):
    assert index.paths == sorted(FILES)
    for place, path in enumerate(FILES):
        row, tar = divmod(place, 3)
        assert index.extent(path) == Extent(f"{tar}.tar", 1000 * row, 300 + row, 2**32 - 1 - row)
    assert [path for path in ("", "a", "a/", "a/b", "zz", "zo", "0") if index.extent(path) is not None] == []


def test_folders_hold_what_they_hold_on_a_disk(index):
    root = Packed(Store("here", index))
    folders = {""} | {str(parent) for path in FILES for parent in PurePosixPath(path).parents if parent.name}
    for folder in folders:
        start = f"{folder}/" if folder else ""
        names = {path.removeprefix(start).partition("/")[0] for path in FILES if path.startswith(start)}
        place = Packed(root.store, folder)
        assert place.is_dir()
        assert [path.name for path in place.iterdir()] == sorted(names)
        assert all(path.parent.path == folder and (path.is_dir() or path.is_file()) for path in place.iterdir())
    assert [path for path in FILES if (root / path).is_dir()] == ["b"]
    for missing in ("a/x", "zo", "a/b/", "c/d/e1"):
        assert (root / missing).is_dir() == (missing == "a/b/")
    with pytest.raises(FileNotFoundError):
        (root / "a/x").iterdir()
    image = root / "zoë" / "日本.png"
    assert (image.stem, image.suffix, str(image)) == ("日本", ".png", "here/zoë/日本.png")


def test_an_empty_index_has_no_folder():
    index = Index.parse(written(Index.of("a.tar", {})))
    assert (index.extent("a"), index.is_folder(""), index.names("")) == (None, False, [])


def test_a_file_in_two_tar_files_is_read_from_the_first():
    index = Index.merged([Index.of("1.tar", {"b": (0, 1, 2), "c": (0, 1, 2)}), Index.of("0.tar", {"b": (5, 6, 7)})])
    assert (list(index.paths), index.extent("b")) == (["b", "c"], Extent("1.tar", 0, 1, 2))


DAMAGED = {
    "type": ({"start": np.zeros(2)}, "start must hold 2 unsigned integers, got float64"),
    "negative": ({"size": np.array([-1, 1])}, "size must hold 2 unsigned integers, got int64"),
    "length": ({"crc32": np.zeros(3, np.uint32)}, r"crc32 must hold 2 unsigned integers, got uint32 of shape \(3,\)"),
    "missing": ({"crc32": None}, "crc32 must hold 2"),
    "no paths": ({"paths": None}, "has no array 'paths'"),
    "short": ({"paths.lengths": np.array([1, 1], np.uint8)}, r"paths\.lengths must add up to the 3 bytes"),
    "wrapped": ({"paths.lengths": np.array([4, -1]).astype(np.uint64)}, r"paths\.lengths must add up to the 3 bytes"),
    "unsorted": (
        {"paths": np.frombuffer(b"caa", np.uint8)},
        "paths must be sorted and different, got 'aa' after 'c'",
    ),
    "same": (
        {"paths": np.frombuffer(b"aa", np.uint8), "paths.lengths": np.array([1, 1], np.uint8)},
        "paths must be sorted and different",
    ),
    "leading slash": ({"paths": np.frombuffer(b"a/b", np.uint8)}, "divided by single slashes, got '/b'"),
    "trailing slash": ({"paths": np.frombuffer(b"ab/", np.uint8)}, "divided by single slashes, got 'b/'"),
    "empty": ({"paths.lengths": np.array([0, 3], np.uint8)}, "divided by single slashes, got ''"),
    "parent folder": ({"paths": np.frombuffer(b"a..", np.uint8)}, r"divided by single slashes, got '\.\.'"),
    "encoding": ({"paths": np.frombuffer(b"a\xffb", np.uint8)}, "invalid start byte"),
    "divided": (
        {"paths": np.frombuffer("aë".encode(), np.uint8), "paths.lengths": np.array([2, 1], np.uint8)},
        "must not divide a character",
    ),
    "outside": ({"tars": np.frombuffer(b"../t", np.uint8), "tars.lengths": np.array([4], np.uint8)}, "next to the"),
    "no tar": ({"tar": np.array([0, 1], np.uint8)}, "tar must be below 1, the number of tar files, got 1"),
    "large": ({"size": np.array([1, 10**12], np.uint64)}, "'bc' must have at most 2,147,483,648 bytes, got 1,000,000,"),
    "pickled": ({"tar": np.array([{}, {}])}, "holds Python objects"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_arrays_are_refused(tmp_path, name):
    change, message = DAMAGED[name]
    with np.load(io.BytesIO(written(Index.of("0.tar", {"a": (0, 1, 2), "bc": (1, 2, 3)})))) as file:
        arrays = {key: array for key, array in (dict(file) | change).items() if array is not None}
    np.savez(tmp_path / "index.npz", **arrays)
    with pytest.raises(UserError, match=rf"index of packed files cannot be read \(.*index\.npz: .*{message}"):
        open_packed(str(tmp_path))


def test_a_file_that_is_cut_off_is_refused(index):
    content = written(index)
    for size in (0, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(ValueError, match=r"zip|magic|central directory|.+"):
            Index.parse(content[:size])
