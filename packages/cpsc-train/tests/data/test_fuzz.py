"""Damaged files of every kind: each ends in a sentence that names the file, in bounded time and memory, or is read."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpsc_train.data import DataConfig
from cpsc_train.data.adapters.nyu_depth_v2 import LABELED
from cpsc_train.data.faults import Faults, read_skip_list
from cpsc_train.data.media.images import read_deep, read_image
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Video, every
from cpsc_train.data.storage.files import fields, read_list
from cpsc_train.data.storage.matlab import load
from cpsc_train.errors import UserError

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12)
READERS = {
    "a.wav": read_sound,
    "a.flac": read_sound,
    "a.jpg": read_image,
    "a.png": read_image,
    "deep.png": read_deep,
    "a.flv": lambda path: Video(path, 2.0).at(every),
    "a.mp4": lambda path: Video(path, 2.0).at(every),
    "b.mp4": read_sound,
}


@pytest.fixture(scope="module")
def whole(layouts, tmp_path_factory):
    """By name, what an undamaged file holds."""
    import soundfile  # noqa: PLC0415  # an extra
    from PIL import Image  # noqa: PLC0415  # an extra
    from scipy.io import savemat  # noqa: PLC0415

    root = tmp_path_factory.mktemp("whole")
    layouts.wav(root / "a.wav")
    soundfile.write(root / "a.flac", np.sin(np.arange(4000) / 9), 8000)
    layouts.picture(root / "a.jpg")
    layouts.picture(root / "a.png")
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)).save(root / "deep.png")
    for name in ("a.flv", "a.mp4", "b.mp4"):
        layouts.video(root / name, seconds=1.0)
    savemat(root / "a.mat", {"numbers": np.arange(30)})
    return {file.name: file.read_bytes() for file in root.iterdir()}


def reads_or_names(read, path):
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017  # most damages do no harm, so that nothing need be raised
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(flips=FLIPS, kept=st.floats(0, 1))
def test_flipped_bytes_and_cut_ends(name, whole, tmp_path, flips, kept):
    held = bytearray(whole[name])
    for place, by in flips:
        held[int(place * len(held))] ^= by
    path = tmp_path / name
    for damaged in (bytes(held), whole[name][: int(kept * len(held))]):
        path.write_bytes(damaged)
        reads_or_names(READERS[name], path)


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(flips=st.lists(st.tuples(st.integers(0, 127), st.integers(1, 255)), min_size=1, max_size=6))
def test_forged_headers(name, whole, tmp_path, flips):
    held = bytearray(whole[name])
    for place, by in flips:
        held[place % len(held)] ^= by
    (tmp_path / name).write_bytes(bytes(held))
    reads_or_names(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(held=st.binary(max_size=200))
def test_bytes_of_nothing_in_particular(name, whole, tmp_path, held):
    (tmp_path / name).write_bytes(whole[name][:8] + held)
    reads_or_names(READERS[name], tmp_path / name)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=FLIPS, kept=st.floats(0, 1))
def test_a_damaged_list_of_matlab(whole, tmp_path, flips, kept):
    held = bytearray(whole["a.mat"])
    for place, by in flips:
        held[int(place * len(held))] ^= by
    for damaged in (bytes(held), whole["a.mat"][: int(kept * len(held))]):
        (tmp_path / "a.mat").write_bytes(damaged)
        reads_or_names(lambda path: load(path, ["numbers"]), tmp_path / "a.mat")


def test_a_reader_that_dies_is_told(tmp_path, monkeypatch):
    (tmp_path / "die.py").write_text("import os\nos.abort()\n")
    (tmp_path / "a.mat").write_bytes(b"anything")
    monkeypatch.setattr("cpsc_train.data.storage.matlab.READER", tmp_path / "die.py")
    with pytest.raises(UserError, match=r"a\.mat: is not a readable file of MATLAB \(its reader ended with -6\)"):
        load(tmp_path / "a.mat", ["numbers"])


def test_lengths_that_headers_lie_about(whole, tmp_path):
    """Each claims gigabytes; none may be believed."""
    wav = bytearray(whole["a.wav"])
    place = wav.index(b"data")
    wav[place + 4 : place + 8] = struct.pack("<I", 2**31 - 2)
    flac = bytearray(whole["a.flac"])
    flac[21:26] = bytes([flac[21] & 0xF0 | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 2^36 samples
    png = bytearray(whole["a.png"])
    png[16:24] = struct.pack(">II", 2**30, 2**30)
    jpeg = bytearray(whole["a.jpg"])
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    for name, held, read in (
        ("a.wav", wav, read_sound),
        ("a.flac", flac, read_sound),
        ("a.png", png, read_image),
        ("a.jpg", jpeg, read_image),
    ):
        (tmp_path / name).write_bytes(bytes(held))
        tracemalloc.start()
        reads_or_names(read, tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 64e6
        tracemalloc.stop()
    for name in ("a.wav", "a.png", "a.jpg"):
        with pytest.raises(UserError, match=name):
            READERS[name](tmp_path / name)


@FUZZ
@given(held=st.binary(max_size=400))
def test_a_list_of_any_bytes(tmp_path, held):
    path, faults = tmp_path / "list.csv", Faults()
    path.write_bytes(held)
    try:
        rows = read_list(path, lambda line, number: fields(line, ",", 2, f"{path}:{number}"), faults)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017  # any bytes may also be a list
    else:
        assert all(len(row) == 2 for row in rows)
        assert all(str(path) in str(error) for error in faults.errors.values())


@FUZZ
@given(text=st.text(max_size=300))
def test_a_list_of_any_text_loses_no_line(tmp_path, text):
    path, faults = tmp_path / "list.csv", Faults()
    path.write_text("a,b\n" + text, encoding="utf-8", newline="")
    rows = read_list(path, lambda line, number: fields(line, ",", 2, f"{path}:{number}"), faults)
    lines = [line for line in ("a,b\n" + text).replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    assert len(rows) + len(faults.errors) == len(lines)


LISTED = {
    "crema-d": ("train.csv", "layouts.crema_d"),
    "kinetics-sounds": ("my_test.txt", "layouts.kinetics_sounds"),
    "ave": ("valSet.txt", "layouts.ave"),
    "mvsa-single": ("dev.jsonl", "layouts.mvsa_single"),
}


@pytest.fixture(scope="module")
def derived(layouts, tmp_path_factory):
    return {
        name: getattr(layouts, made.partition(".")[2])(tmp_path_factory.mktemp(name))
        for name, (_, made) in LISTED.items()
    }


@pytest.mark.parametrize("name", LISTED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_any_line_in_the_list_of_a_data_set(name, derived, line):
    path = derived[name] / LISTED[name][0]
    whole = path.read_bytes()
    try:
        path.write_bytes(whole + line.encode() + b"\n")
        dataset = DataConfig.named(name)(root=str(derived[name])).load()
        assert len(dataset.faults) <= 1
    except UserError as error:
        assert path.name in str(error)  # noqa: PT017  # a line may also be one that can be used
    finally:
        path.write_bytes(whole)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=FLIPS)
def test_a_damaged_file_of_nyu(layouts, tmp_path_factory, flips):
    root = tmp_path_factory.mktemp("nyu")
    layouts.nyu_native(root, scenes=6)
    held = bytearray((root / LABELED).read_bytes())
    for place, by in flips:
        held[int(place * len(held))] ^= by
    (root / LABELED).write_bytes(bytes(held))
    try:
        dataset = DataConfig.named("nyu-depth-v2")(root=str(root)).load()
        for row in range(len(dataset)):
            for modality in dataset.modalities:
                dataset.decode(modality, row)
    except UserError as error:
        assert LABELED in str(error)  # noqa: PT017  # flips in pixels do no harm


@FUZZ
@given(text=st.text(max_size=100))
def test_a_skip_list_of_any_text(tmp_path, text):
    path = tmp_path / "skip.tsv"
    path.write_text(text, encoding="utf-8")
    try:
        read_skip_list(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017  # any text may also be a list
