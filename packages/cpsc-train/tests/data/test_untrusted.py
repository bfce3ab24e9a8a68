"""Files that were made to do harm: each is refused before what it claims or points at is touched."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import zipfile

import numpy as np
import pytest

from cpsc_train.data import DataConfig
from cpsc_train.data.adapters.av_digits import IMAGES, _read_idx
from cpsc_train.data.adapters.nyu_depth_v2 import LABELED, Row
from cpsc_train.data.media.images import read_image
from cpsc_train.data.storage import matlab, untrusted
from cpsc_train.data.storage.files import read_bytes
from cpsc_train.data.storage.matlab import load
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import DataError, UserError
from cpsc_train.reading import check_file


def zeros(count: int) -> bytes:
    """Return an .npy file of zeros."""
    file = io.BytesIO()
    np.save(file, np.zeros(count, np.uint8))
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_array_is_stored_or_deflated(tmp_path, method):
    """With bzip2 265 bytes become 40 MB, where deflate makes 1,032 times its size at most."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("label.npy", zeros(10**6))
    with pytest.raises(DataError, match="another way than deflate"):
        read_npz(path)


def test_the_members_of_an_archive_are_bounded_together(tmp_path):
    """Many names for the same bytes: each is within the bound of deflate, and all of them are not."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a000.npy", zeros(10**6))
    held = path.read_bytes()
    start = held.index(b"PK\x01\x02")
    entry, end = held[start : held.index(b"PK\x05\x06")], held[held.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"a000", b"a%03d" % number) for number in range(100))
    end = end[:8] + struct.pack("<HHII", 100, 100, len(entries), start) + end[20:]
    path.write_bytes(held[:start] + entries + end)
    with pytest.raises(DataError, match=r"overlap|states a larger size"):
        read_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.npy", "a.npy"), ("a.npy", "inner.npz"), ("a.npy", "notes.txt")])
def test_an_archive_holds_arrays_of_different_names(tmp_path, names):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, zeros(3))
    with pytest.raises(DataError, match=r"two members of one name|not a \.npy file"):
        read_npz(path)


@pytest.mark.parametrize(
    ("method", "suffix", "message"),
    [(zipfile.ZIP_BZIP2, ".npy", "compresses 'x{80}' in"), (zipfile.ZIP_STORED, ".txt", "holds 'x{80}', which")],
)
def test_of_a_long_name_in_an_archive_the_beginning_is_told(method, suffix, message):
    with zipfile.ZipFile(io.BytesIO(), "w", method) as archive:
        archive.writestr("x" * 300 + suffix, b"")
        with pytest.raises(ValueError, match=message):
            untrusted.check_archive(archive, 10**6)


@pytest.mark.parametrize("name", ["/x", "../x", "a/../../x", "x" * 256, "a/" + "é" * 128, "a\0b"])
def test_a_name_in_a_list_is_below_the_folder(tmp_path, name):
    with pytest.raises(DataError) as caught:
        untrusted.inside(tmp_path, name, "list:3")
    assert caught.value.kind == "bad path"
    for fine in ("a/b.png", "x" * 255, "é" * 127):
        assert untrusted.inside(tmp_path, fine, "list:3") == tmp_path / fine


def test_what_a_file_may_claim_is_bounded_as_it_is_documented():
    """Tests lower these bounds, and would not see one that was raised."""
    packets = untrusted.LONGEST * 240 + untrusted.LONGEST / 0.0012
    assert packets < untrusted.MOST_PACKETS < 1.1 * packets
    assert (untrusted.LARGEST_CHUNK, untrusted.LARGEST_LIST, untrusted.READER_MEMORY) == (2**28, 2**25, 2**31)
    assert (untrusted.MOST_PIXELS, untrusted.MOST_SHOWN, untrusted.MOST_STREAMS) == (2**26, 2**30, 64)
    assert (untrusted.LONGEST, untrusted.LONGEST_LIST) == (3600.0, 100_000)


def test_a_gzip_file_is_read_as_far_as_its_header_says(tmp_path):
    held = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28) + bytes(10**7))
    (tmp_path / IMAGES).write_bytes(held)
    with pytest.raises(UserError, match="got more"):
        _read_idx(tmp_path / IMAGES, 3)
    (tmp_path / IMAGES).write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28)))
    with pytest.raises(UserError, match="2147483648 × 28 × 28 bytes, got 0"):
        _read_idx(tmp_path / IMAGES, 3)


def test_an_image_of_a_format_that_is_not_on_the_list(tmp_path):
    """EPS would start a program; TGA has no signature, so that nearly anything can claim to be one."""
    image = pytest.importorskip("PIL.Image")
    for kind in ("EPS", "TGA", "PCX"):
        image.new("RGB", (4, 4)).save(tmp_path / "a.png", format=kind)
        with pytest.raises(DataError, match="not a readable image"):
            read_image(tmp_path / "a.png")
    for kind in untrusted.PICTURES:
        image.new("RGB", (4, 4), "red").save(tmp_path / "a.jpg", format=kind)  # downloaded pictures have any suffix
        assert read_image(tmp_path / "a.jpg").size == (4, 4)


def test_a_file_is_a_file(tmp_path, monkeypatch):
    """A pipe would be waited for without end."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "folder"):
        with pytest.raises(DataError, match="must be a file"):
            read_bytes(tmp_path / name)
        with pytest.raises(DataError, match="must be a file"):
            read_npz(tmp_path / name)
    (tmp_path / "b").write_bytes(bytes(9))
    monkeypatch.setattr(check_file, "__kwdefaults__", {"largest": 8})
    with pytest.raises(DataError, match="must have at most 8 bytes, got 9"):
        read_bytes(tmp_path / "b")


def scenes(h5py, path, **changes):
    """Write a file of two scenes as NYU Depth V2 has them, with arrays that `changes` make."""
    with h5py.File(path, "w") as file:
        kinds = file.create_dataset("sceneTypes", (1, 2), dtype=h5py.ref_dtype)
        for row in range(2):
            file[f"#refs#/{row}"] = np.frombuffer("kitchen".encode("utf-16-le"), np.uint16)
            kinds[0, row] = file[f"#refs#/{row}"].ref
        arrays = {"images": ((2, 3, 8, 6), np.uint8), "depths": ((2, 8, 6), np.float32)}
        for name, (shape, kind) in arrays.items():
            if name in changes:
                changes[name](file)
            else:
                file[name] = np.ones(shape, kind)


@pytest.fixture
def nyu(tmp_path):
    """Return what reads the colours of a scene of a file with changes."""
    h5py = pytest.importorskip("h5py")
    (tmp_path / "root").mkdir()
    path = tmp_path / "root" / LABELED

    def read(**changes):
        scenes(h5py, path, **{name: lambda file, change=change: change(h5py, file) for name, change in changes.items()})
        return Row(path, 0).colour()

    read.path = path
    return read


def test_an_array_of_hdf5_that_claims_what_is_not_there(nyu):
    """4,640 bytes of which 1.6 GB were made."""
    assert nyu().shape == (6, 8, 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="states a larger size than its content"):
        nyu(images=lambda _, file: file.create_dataset("images", (2, 3, 15000, 15000), np.uint8))
    with pytest.raises(DataError, match="states a larger size than its content"):
        nyu(images=lambda _, f: f.create_dataset("images", (2, 3, 15000, 15000), np.uint8, chunks=(1, 1, 99, 99)))
    assert nyu.path.stat().st_size < 20_000
    with pytest.raises(DataError, match="states a larger size than its content"):
        DataConfig.named("nyu-depth-v2")(root=str(nyu.path.parent)).load()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100


def test_scenes_of_hdf5_have_a_size_that_scenes_have(nyu, monkeypatch):
    monkeypatch.setattr("cpsc_train.data.adapters.nyu_depth_v2.MOST_PIXELS", 40)
    with pytest.raises(DataError, match=r"scenes of shape \(3, 8, 6\)"):
        nyu()
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"scenes of shape \(4, 8, 6\)"):
        nyu(images=lambda _, file: file.create_dataset("images", data=np.ones((2, 4, 8, 6), np.uint8)))
    monkeypatch.setattr(untrusted, "LARGEST_CHUNK", 100)
    with pytest.raises(DataError, match="chunks of 288 bytes"):
        nyu(images=lambda _, f: f.create_dataset("images", data=np.ones((2, 3, 8, 6), np.uint8), chunks=(2, 3, 8, 6)))


def _virtual(h5py, file):
    with h5py.File(f"{file.filename}.other", "w") as other:
        other["images"] = np.ones((2, 3, 8, 6), np.uint8)
    layout = h5py.VirtualLayout((2, 3, 8, 6), np.uint8)
    layout[:] = h5py.VirtualSource(f"{file.filename}.other", "images", (2, 3, 8, 6))
    file.create_virtual_dataset("images", layout)


def _external(h5py, file):
    with open(f"{file.filename}.secret", "wb") as secret:  # noqa: PTH123
        secret.write(bytes(288))
    file.create_dataset("images", (2, 3, 8, 6), np.uint8, external=[(f"{file.filename}.secret", 0, 288)])


def _elsewhere(h5py, file):
    with h5py.File(f"{file.filename}.other", "w") as other:
        other["images"] = np.ones((2, 3, 8, 6), np.uint8)
    file["images"] = h5py.ExternalLink(f"{file.filename}.other", "images")


def _soft(h5py, file):
    file["others"] = np.ones((2, 3, 8, 6), np.uint8)
    file["images"] = h5py.SoftLink("/others")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_external, "is stored in another file"),
        (_virtual, "is stored in another file"),
        (_elsewhere, "images is a link"),
        (_soft, "images is a link"),
        (lambda _, file: file.create_group("images"), "images is not an array"),
        (lambda h, file: file.create_dataset("images", (2,), h.vlen_dtype(np.uint8)), "no numbers"),
        (lambda h, file: file.create_dataset("images", (2,), h.string_dtype()), "no numbers"),
        (lambda _, file: file.create_dataset("images", (2,), [("a", "u1")]), "no numbers"),
        (lambda _, f: f.create_dataset("images", data=np.ones((2, 3, 8, 6), "u1"), compression="lzf"), "than deflate"),
    ],
)
def test_arrays_of_hdf5_lie_in_the_file_and_are_numbers(nyu, change, message):
    with pytest.raises(DataError, match=message):
        nyu(images=change)


def test_a_scene_type_is_a_word(nyu):
    h5py = pytest.importorskip("h5py")
    nyu()
    with h5py.File(nyu.path, "a") as file:
        file["long"] = np.full(10**5, 97, np.uint16)
        file["sceneTypes"][0, 1] = file["long"].ref
    with pytest.raises(DataError, match="a scene type has 100,000 values"):
        DataConfig.named("nyu-depth-v2")(root=str(nyu.path.parent)).load()


def test_a_list_of_matlab_is_bounded(tmp_path, monkeypatch):
    """46,858 bytes that become 6 million numbers took 370 MB in this process."""
    savemat = pytest.importorskip("scipy.io").savemat
    path = tmp_path / "splits.mat"
    savemat(path, {"trainNdxs": np.zeros((6 * 10**6, 1))}, do_compression=True)
    assert path.stat().st_size < 10**5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="6,000,000 values, more than the 100,000 of a list"):
        load(path, ["trainNdxs"])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50
    monkeypatch.setattr(matlab, "READER_MEMORY", 10**8)
    with pytest.raises(DataError, match="not a readable file of MATLAB"):
        load(path, ["trainNdxs"])
    monkeypatch.setattr(matlab, "LARGEST_LIST", 100)
    with pytest.raises(DataError, match="must have at most 100 bytes"):
        load(path, ["trainNdxs"])
