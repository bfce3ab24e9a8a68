"""A table of samples of one's own."""

from __future__ import annotations

import copy
import json
import wave

import numpy as np
import pytest

from cpsc_train import load
from cpsc_train.config import apply_settings
from cpsc_train.data import SplitConfig, Splits
from cpsc_train.data.adapters.table import TableConfig
from cpsc_train.data.storage.cache import MemoryCache
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe
from cpsc_train.training.settled import settled
from own_table import digits, write_table

pytest.importorskip("PIL", reason="needs the extra vision")
ROWS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table")


@pytest.fixture(scope="module")
def rows(folder):
    return digits(folder, ROWS)


@pytest.fixture
def saved(folder, rows):
    """Return a function that writes the table with some columns changed, and returns the options of the data set."""

    def save(*, name="mine.csv", **columns):
        return TableConfig(root=str(write_table(folder / name, rows, **columns)))

    return save


def cells(rows, column, **changed):
    """Return a column with the cells of some rows changed, given as ``row_3="…"``."""
    return [changed.get(f"row_{number}", row.get(column, "")) for number, row in enumerate(rows)]


def test_kinds_shapes_and_names_follow_from_the_cells(saved, rows):
    dataset = saved().open()
    assert {name: (one.kind, one.shape) for name, one in dataset.modalities.items()} == {
        "image": ("image", (3, 16, 16)),
        "note": ("text", (64,)),
        "shape": ("vector", (20,)),
    }
    assert list(dataset.classes) == sorted({row["label"] for row in rows})
    assert [dataset.classes[label] for label in dataset.labels] == [row["label"] for row in rows]
    some = np.array([4, 0])
    vectors = [[float(value) for value in rows[row]["shape"].split()] for row in some]
    np.testing.assert_allclose(dataset.read("shape", some), vectors, rtol=1e-6)
    assert dataset.read("note", some).tolist() == [rows[row]["note"] for row in some]
    images = dataset.read("image", some)
    assert images.shape == (2, 3, 16, 16)
    assert not np.array_equal(images[0], images[1])
    assert dataset.inputs("note", dataset.read("note", some)).shape == (2, 64)


def test_an_empty_cell_is_a_modality_that_the_sample_lacks(saved, rows):
    dataset = saved(image=cells(rows, "image", row_3=""), shape=cells(rows, "shape", row_5="")).open()
    assert {name: np.flatnonzero(~mask).tolist() for name, mask in dataset.presence.items()} == {
        "image": [3],
        "shape": [5],
    }
    assert dataset.read("shape", np.array([4, 6])).shape == (2, 20)


def test_numbered_columns_are_one_vector(saved, rows):
    numbers = {f"accel.{axis}": [f"{axis + row / 10}" for row in range(ROWS)] for axis in (1, 0)}
    numbers = {name: ["", *column[1:]] for name, column in numbers.items()}
    dataset = saved(**numbers).open()
    assert dataset.modalities["accel"].shape == (2,)
    np.testing.assert_allclose(dataset.read("accel", np.array([2])), [[0.2, 1.2]])
    assert not dataset.presence["accel"][0]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_other_tables_hold_the_same(saved, rows, folder, suffix):
    if suffix == "tsv":
        other = saved(name="mine.tsv").open()
    else:
        lines = [row | {"shape": [float(value) for value in row["shape"].split()]} for row in rows]
        del lines[1]["note"]
        lines[2]["note"] = None
        (folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        other = TableConfig(root=str(folder / "mine.jsonl")).open()
        assert np.flatnonzero(~other.presence["note"]).tolist() == [1, 2]
    one = saved().open()
    everything = np.arange(ROWS)
    np.testing.assert_array_equal(other.labels, one.labels)
    for name in ("image", "shape"):
        np.testing.assert_allclose(other.read(name, everything), one.read(name, everything), rtol=1e-6)


def test_what_was_found_is_kept_in_the_configuration(saved, folder, rows):
    data = saved()
    config = settled(apply_settings(recipe("table"), [f"data.root={data.root}"]))
    assert config.data.kinds == {"image": "image", "note": "text", "shape": "vector"}
    assert config.data.classes == data.open().classes
    assert config.data.size == 16
    assert {name: encoder.name for name, encoder in config.encoders.items()} == {
        "image": "small-cnn", "note": "transformer", "shape": "mlp"}  # fmt: skip
    moved = folder / "moved"
    fewer = digits(moved, ROWS)[:30]  # its kinds, classes and sizes are those of the run
    assert (
        apply_settings(config, [f"data.root={write_table(moved / 'mine.csv', fewer)}"]).data.open().classes
        == config.data.classes
    )


def test_a_kind_is_overridden_and_a_column_left_out(saved):
    base = saved()
    config = apply_settings(
        recipe("table", modalities=("shape", "note")), [f"data.root={base.root}", "data.kinds.shape=text"]
    )
    dataset = config.data.open()
    assert {name: one.kind for name, one in dataset.modalities.items()} == {"shape": "text", "note": "text"}
    assert [str(note) for note in dataset.notes] == [f"{base.root}: column 'image' is not used"]


def test_parts_are_those_of_the_table(saved, rows):
    names = ["train"] * 30 + ["dev"] * 10 + ["Test"] * 20
    dataset = saved(split=names, label=["even", "uneven"] * 30).open()
    splits = Splits.of(dataset, SplitConfig(calibration=10))
    assert splits.sizes == {"train": 20, "calibration": 10, "validation": 10, "test": 20}
    assert splits.test.tolist() == list(range(40, 60))


def test_groups_stay_in_one_part(saved):
    groups = [f"writer {row // 3}" if row < 57 else "" for row in range(ROWS)]
    dataset = saved(group=groups).open()
    splits = Splits.of(dataset, SplitConfig(seed=3))
    part_of = {row: part for part, of in vars(splits).items() for row in of}
    assert sorted(part_of) == list(range(ROWS))
    assert len({(groups[row], part) for row, part in part_of.items() if row < 57}) == 19
    assert all(abs(size - wanted) <= 3 for size, wanted in zip(splits.sizes.values(), (36, 6, 6, 12), strict=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["one"] * ROWS}, r"mine\.csv: column 'label' must hold at least two classes, got only 'one'"),
        ({"label": {"row_7": ""}}, r"mine\.csv: column 'label' is empty at row 7"),
        ({"split": ["train"] * 59 + ["later"]}, r"row 59: split must be one of train, validation, .*, got 'later'"),
        ({"id": ["a", "b"] + ["a"] * 58}, r"mine\.csv: row 2: 'a' is listed twice, before at .*mine\.csv: row 0"),
        ({"shape": {"row_4": "1 2 many"}}, r"row 4: shape must hold numbers .* got '1 2 many': its kind is set"),
        ({"shape": {"row_4": "1 2"}}, r"mine\.csv: row 4: shape must hold 20 numbers as in most rows, got 2"),
        ({"shape": {"row_4": "1 nan"}}, r"row 4: shape holds a number that is missing .* got '1 nan': fill it"),
        ({"image": {"row_4": "3 4"}}, r"mine\.csv: row 4: image must be the path of an image, got '3 4'"),
        ({"image": ["none.png"] * 59 + [""]}, r"row 0: .*none\.png is missing, the first of 59 faults"),
        ({"image": {"row_4": ""}, "note": {"row_4": ""}, "shape": {"row_4": ""}}, r"mine\.csv: row 4: has no modality"),
        ({"group": ["a"] * ROWS, "split": ["train"] * 59 + ["test"]}, r"'a' is in train \(row 0\) and test \(row 59\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_row(saved, rows, columns, message):
    changed = {name: cells(rows, name, **of) if isinstance(of, dict) else of for name, of in columns.items()}
    with pytest.raises(UserError, match=message):
        saved(**changed).open()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "sentiment"}, "unknown label column 'sentiment' .*: name it with --set data.label=COLUMN"),
        ({"split": "part"}, "unknown split column 'part'"),
        ({"modalities": ("image", "nite")}, "unknown modality 'nite'; did you mean 'note'"),
        ({"modalities": ("image",)}, "must have at least two modalities, a column each, got image"),
        ({"kinds": {"nite": "text"}}, r"unknown modality 'data\.kinds\.nite'"),
        ({"classes": ("zero", "one")}, r"row \d+: label must be one of zero, one, got"),
        ({"root": "absent.csv"}, "absent.csv: no such file: name the table with --root"),
        ({"root": "."}, r"must be a table \(\.csv, \.tsv, \.jsonl\): name the table with --root"),
        ({"size": 0}, "data.size must be at least 1, got 0"),
        ({"seconds": 0.01}, "data.seconds must be at least 0.1, got 0.01"),
    ],
)
def test_options_that_do_not_fit_are_told(saved, options, message):
    with pytest.raises(UserError, match=message):
        TableConfig(**({"root": saved().root} | options)).open()


def test_the_first_ten_missing_files_are_named_and_all_are_listed(cpsc, saved, rows, folder):
    absent = cells(rows, "image", **{f"row_{row}": f"images/none-{row}.png" for row in range(12)})
    root = saved(name="absent.csv", image=absent).root
    outcome = cpsc("train", "--recipe", "table", "--root", root)
    assert outcome.code == 2
    assert "the first of 12 faults" in outcome.err
    assert all((f"none-{row}.png is missing" in outcome.err) == (row < 10) for row in range(12))
    skip = folder / "skip.tsv"
    assert cpsc("data", "check", "table", "--root", root, "--skip-list", skip, "--workers", 0).code == 2
    assert all(f"none-{row}.png is missing" in skip.read_text() for row in range(12))
    kept = apply_settings(recipe("table"), [f"data.root={root}", f"data.skip={skip}"])
    assert len(settled(kept).data.open()) == ROWS - 12


def test_sound_becomes_a_spectrogram(saved, folder):
    pytest.importorskip("soundfile", reason="needs the extra audio")
    for row in range(ROWS):
        tone = np.sin(np.arange(8000) * (0.1 + row / 100)) * 2**14
        with wave.open(str(folder / f"{row}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(tone.astype("<i2").tobytes())
    dataset = saved(voice=[f"{row}.wav" for row in range(ROWS)]).open()
    waveforms = dataset.read("voice", np.arange(3))
    assert waveforms.shape == (3, 16_000)
    spectra = dataset.inputs("voice", waveforms)
    assert spectra.shape == (3, 1, 64, 64)
    loudest = spectra.mean((1, 3)).argmax(1)  # 8 kHz have 64 bands of 125 Hz
    np.testing.assert_allclose(loudest, [(0.1 + row / 100) * 8000 / (2 * np.pi) / 125 for row in range(3)], atol=1)


def test_a_cache_holds_what_is_decoded(cpsc, saved, folder):
    config = saved()
    outcome = cpsc("data", "prepare", "table", "--root", config.root, "--cache", folder / "cache", "--workers", 0)
    assert outcome.code == 0, outcome.err
    cached = apply_settings(config, [f"cache={folder / 'cache'}"]).open()
    assert cached.cached
    np.testing.assert_array_equal(cached.read("image", np.arange(9)), config.open().read("image", np.arange(9)))


@pytest.mark.slow
def test_from_a_table_to_a_report(cpsc, folder):
    pytest.importorskip("transformers", reason="needs the extra text")
    pytest.importorskip("matplotlib", reason="needs the extra report")
    rows = digits(folder / "more", 300)
    for row in rows[::20]:
        row["image"] = ""
    path = write_table(folder / "more" / "digits.csv", rows)
    run = folder / "run"
    options = ("--epochs", 6, "--set", "compute.workers=0", "--set", "noise=[]", "--inference", "none")
    outcome = cpsc("train", "--data", "table", "--root", path, "--out", run, *options)
    assert outcome.code == 0, outcome.err
    assert "image: image of 3×16×16" in outcome.out
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["clean"]["accuracy"]["fused"] > 0.7
    predictions = np.load(run / "predictions.npz")
    test = [rows[int(number)] for number in predictions["ids"]]
    given = {name: [row[name] or None for row in test] for name in ("note", "image", "shape")}
    given["image"] = [name and folder / "more" / name for name in given["image"]]
    given["shape"] = [[float(value) for value in numbers.split()] for numbers in given["shape"]]
    batch = load(run).predict(given)
    assert list(batch.classes) == sorted({row["label"] for row in rows})
    np.testing.assert_allclose(batch.probabilities, predictions["probabilities/fused"], atol=1e-6)
    moved = path.parent.rename(folder / "elsewhere") / path.name
    assert "identical to results.json" in cpsc("evaluate", run, "--root", moved).out
    assert cpsc("report", run).code == 0


def test_frames_are_taken_from_videos_and_their_sound_on_request(saved, folder, recordings):
    for row in range(ROWS):
        frames = [np.full((32, 32, 3), 3 * k + row, np.uint8) for k in range(20)]
        recordings.record(folder / f"{row}.mp4", frames, fps=10, seconds=2.0)
    columns = {"clip": [f"{row}.mp4" for row in range(ROWS)], "voice": [f"{row}.mp4" for row in range(ROWS)]}
    config = apply_settings(recipe("table"), [f"data.root={saved(**columns).root}", "data.kinds.voice=sound"]).data
    dataset = config.open()
    assert {name: dataset.modalities[name].shape for name in columns} == {"clip": (4, 3, 16, 16), "voice": (1, 64, 64)}
    clips = dataset.read("clip", np.array([0, 9]))
    middles = np.array([2.5, 7.5, 12.5, 17.5])  # of the 20 frames
    np.testing.assert_allclose(clips.mean((2, 3, 4)), 3 * middles + [[0], [9]], atol=6)
    assert np.abs(dataset.read("voice", np.array([3]))).max() > 0.3


def test_what_fits_into_memory_is_decoded_once():
    cache, made = MemoryCache(limit=100), []

    def get(cache, key, size):
        return cache.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    for key, size in (("a", 60), ("b", 60), ("c", 40), ("a", 60), ("b", 60), ("c", 40)):
        assert len(get(cache, key, size)) == size
    assert made == ["a", "b", "c", "b"]
    get(copy.copy(cache), "a", 60)
    assert made[-1] == "a"
