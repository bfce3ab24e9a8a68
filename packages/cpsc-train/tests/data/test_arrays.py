from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import Noise, SplitConfig, Splits, conditions
from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig, train
from cpsc_train.training.settled import settled

REAL = Path(__file__).parents[4].parent / "shared" / "data"
ROWS = 120


@pytest.fixture
def arrays():
    """Two modalities of three classes."""
    generator = np.random.default_rng(0)
    label = np.arange(ROWS) % 3
    return {
        "label": label,
        "near": (label[:, None] + generator.normal(size=(ROWS, 4)) / 4).astype(np.float32),
        "far": (label[:, None, None] * np.ones((5, 6)) + generator.normal(size=(ROWS, 5, 6))).astype(np.float16),
    }


def saved(folder, arrays, name="mine.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


def opened(folder, arrays, **options):
    return ArraysConfig(root=str(saved(folder, arrays)), **options).open()


def test_kinds_follow_from_shapes(tmp_path, arrays):
    arrays |= {
        "first": np.zeros((ROWS, 3, 8, 9), np.uint8),
        "last": np.arange(ROWS * 8 * 9 * 3).reshape(ROWS, 8, 9, 3),
        "frames": np.zeros((ROWS, 7, 8, 9, 3), np.uint8),
        "words": np.array(["a dog", "cat"] * (ROWS // 2)),
        "score": np.ones(ROWS),
        "table": np.ones((7, 7)),
    }
    dataset = opened(tmp_path, arrays)
    assert {name: (one.kind, one.shape, one.bounds) for name, one in dataset.modalities.items() if name != "far"} == {
        "near": ("vector", (4,), None),
        "first": ("image", (3, 8, 9), (0.0, 255.0)),
        "last": ("image", (3, 8, 9), (0.0, ROWS * 216.0 - 1)),
        "frames": ("image", (7, 3, 8, 9), (0.0, 255.0)),
        "words": ("text", (32,), None),
    }
    assert dataset.modalities["far"].shape == (1, 5, 6)
    np.testing.assert_array_equal(dataset.read("last", np.array([3]))[0], np.moveaxis(arrays["last"][3], -1, 0))
    tokens = dataset.inputs("words", dataset.read("words", np.array([0, 1])))
    assert [np.count_nonzero(row) for row in tokens] == [3, 2]
    assert {str(note).split("array ")[1].split(" ")[0] for note in dataset.notes} == {"'score'", "'table'"}


def test_kinds_can_be_chosen(tmp_path, arrays):
    dataset = opened(
        tmp_path, arrays | {"flat": np.ones((ROWS, 12))}, vectors=("far",), images=("flat:3x4", "near:2x2")
    )
    assert {name: (one.kind, one.shape) for name, one in dataset.modalities.items()} == {
        "near": ("image", (1, 2, 2)),
        "far": ("vector", (30,)),
        "flat": ("image", (1, 3, 4)),
    }
    np.testing.assert_array_equal(dataset.read("far", np.array([7]))[0], arrays["far"][7].ravel().astype(np.float32))


def test_labels_parts_groups_and_names(tmp_path, arrays):
    names = np.array(["red", "green", "blue"])
    part = np.array(["train", "dev", "cal", " Testing"])[np.arange(ROWS) // 3 % 4]
    more = {"split": part, "speaker": np.arange(ROWS) % 5, "id": np.arange(100, 100 + ROWS), "classes": names}
    dataset = opened(tmp_path, arrays | more)
    assert dataset.classes == tuple(names)
    np.testing.assert_array_equal(dataset.labels, arrays["label"])
    assert {part: len(rows) for part, rows in dataset.parts.items()} == dict.fromkeys(
        ("train", "validation", "calibration", "test"), 30
    )
    assert Splits.of(dataset, SplitConfig()).sizes == dict.fromkeys(("train", "calibration", "validation", "test"), 30)
    assert dataset.groups[:6] == ["0", "1", "2", "3", "4", "0"]
    assert dataset.ids[0] == "100"
    text = opened(tmp_path, arrays | {"label": names[arrays["label"]]})
    assert text.classes == ("blue", "green", "red")
    assert [text.classes[label] for label in text.labels[:3]] == ["red", "green", "blue"]
    assert opened(tmp_path, arrays | {"label": np.array([b"x", b"y", b"z"])[arrays["label"]]}).classes == (
        "x",
        "y",
        "z",
    )
    numbers = opened(tmp_path, arrays | {"label": np.array(["2", "10", "-1"])[arrays["label"]]})
    assert numbers.classes == ("-1", "2", "10")
    assert numbers.labels[:3].tolist() == [1, 2, 0]


def test_files_are_joined_by_id(tmp_path, arrays):
    ids = np.array([f"s{row}" for row in range(ROWS)])
    order = np.random.default_rng(1).permutation(ROWS)
    saved(tmp_path, {"id": ids, "near": arrays["near"]}, "one.npz")
    saved(tmp_path, {"id": ids[order], "far": arrays["far"][order]}, "two.npz")
    rows = [json.dumps({"id": f"s{row}", "label": int(arrays["label"][row])}) for row in range(ROWS - 4)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:40]), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text("\n".join(rows[40:]), encoding="utf-8")
    dataset = ArraysConfig(root=str(tmp_path), samples=("train.jsonl", "test.jsonl")).open()
    assert dataset.ids == ids[:-4].tolist()
    assert {part: len(rows) for part, rows in dataset.parts.items()} == {"train": 40, "test": ROWS - 44}
    assert list(dataset.dropped) == [f"s{row} (no label)" for row in range(ROWS - 4, ROWS)]
    for name in ("near", "far"):
        got = dataset.read(name, np.arange(3)).reshape(3, -1)
        np.testing.assert_array_equal(got, arrays[name][:3].reshape(3, -1).astype(np.float32))


def test_files_without_ids_are_joined_by_row(tmp_path, arrays):
    saved(tmp_path, {"label": arrays["label"], "near": arrays["near"]}, "a.npz")
    saved(tmp_path, {"far": arrays["far"]}, "b.npz")
    assert list(ArraysConfig(root=str(tmp_path)).open().modalities) == ["near", "far"]
    saved(tmp_path, {"far": arrays["far"][:-1]}, "b.npz")
    with pytest.raises(UserError, match="files without ids must have the same number of rows"):
        ArraysConfig(root=str(tmp_path)).open()


def test_a_table_of_vectors(tmp_path):
    lines = ["id,split,label,a_0,a_1,b.10,b.9,remark"]
    lines += [
        f"r{row},{'test' if row > 8 else 'train'},{'xy'[row % 2]},{row},.5,{row * 10},-1,fine" for row in range(12)
    ]
    (tmp_path / "mine.csv").write_text("\ufeff" + "\r\n".join(lines) + "\n", encoding="utf-8")
    dataset = ArraysConfig(root=str(tmp_path / "mine.csv")).open()
    assert {name: one.shape for name, one in dataset.modalities.items()} == {"a": (2,), "b": (2,)}
    np.testing.assert_array_equal(dataset.read("b", np.array([2])), [[-1, 20]])
    assert dataset.classes == ("x", "y")
    assert len(dataset.parts["test"]) == 3
    (tmp_path / "bad.csv").write_text("\n".join([*lines[:3], lines[3].replace(".5", "five")]), encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.csv: row 2, column 'a_1' must be a number, got 'five'"):
        ArraysConfig(root=str(tmp_path / "bad.csv")).open()
    (tmp_path / "short.csv").write_text("\n".join([*lines[:3], "r3,train"]), encoding="utf-8")
    with pytest.raises(UserError, match=r"short\.csv: row 2 must have 8 columns, got 2"):
        ArraysConfig(root=str(tmp_path / "short.csv")).open()


def test_levels_of_stored_corruptions_are_those_of_their_source(tmp_path, arrays):
    stored = {f"near@blur-{severity:g}": arrays["near"] + level for level, severity in ((1, 0.01), (5, 0.08))}
    dataset = opened(tmp_path, arrays | stored)
    parsed = conditions("near:all@1,5", dataset.modalities, dataset=dataset)
    assert [one.name for one in parsed] == ["near:blur@1", "near:blur@5"]
    assert [one.describe(dataset)[0]["level"] for one in parsed] == [1, 5]
    (severe,) = parsed[1].parts
    severe.check_on(dataset)
    np.testing.assert_array_equal(dataset.corrupted("near", severe, np.array([2])), arrays["near"][[2]] + 5)


def test_stored_corruptions_are_given_by_kind_and_severity(tmp_path, arrays):
    stored = arrays["near"] + 5
    stored[20:] = np.nan
    dataset = opened(tmp_path, arrays | {"near@gaussian-0.2": stored})
    assert list(dataset.modalities) == ["near", "far"]
    noise = Noise(modality="near", kind="gaussian", severity=0.2)
    np.testing.assert_array_equal(dataset.corrupted("near", noise, np.array([4, 3])), stored[[4, 3]])
    assert dataset.corrupted("near", Noise(modality="near", kind="gaussian", severity=0.3), np.array([4])) is None
    with pytest.raises(UserError, match=r"near@gaussian-0\.2: row 20 was not extracted"):
        dataset.corrupted("near", noise, np.array([19, 20]))
    config = settled(recipe("arrays", data=ArraysConfig(root=str(tmp_path / "mine.npz"))))
    assert [one.name for one in config.noise] == ["near-gaussian-0.2", "far-gaussian-0.5", "far-gaussian-1"]
    chosen = settled(recipe("arrays", data=ArraysConfig(root=str(tmp_path / "mine.npz")), protocols=("strict:GS@5",)))
    assert chosen.noise == ()


@pytest.mark.parametrize("option", ["noise", "augment", "corruption.noise", "protocols"])
def test_noise_that_is_not_stored_is_not_computed_beside_stored_noise(tmp_path, arrays, cpsc, option):
    file = saved(tmp_path, arrays | {"near@gaussian-0.2": arrays["near"] + 5})
    noise = '"near:gaussian:0.5"' if option == "protocols" else '{modality="near",kind="gaussian",severity=0.5}'
    usual = ("--recipe", "arrays", "--root", file, "--out", tmp_path / "run")
    outcome = cpsc("train", *usual, "--set", f"{option}=[{noise}]")
    assert outcome.code == 2
    assert "near-gaussian-0.5: noise on near must be one of its stored corruptions, gaussian-0.2" in outcome.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["near"].__setitem__((7, 2), np.nan), r"mine\.npz: near holds nan at row 7, column 2 \(1 bad"),
        (lambda a: a.pop("label"), r"holds no labels, an array called label or labels .* \(it holds: near, far\)"),
        (lambda a: a.pop("far"), r"must hold at least two modalities of 120 rows, got near$"),
        (
            lambda a: a.update(far=a["far"][1:]),
            r"of 120 rows, got near \(not used: array 'far' \(float16 of shape \(119, 5, 6\)\)\)",
        ),
        (lambda a: a.update(label=np.eye(3)[a["label"]]), r"label must hold one value per row, got shape \(120, 3\)"),
        (lambda a: a.update(label=np.array([b"\xff", b"a"] * 60)), "label must hold integers or strings, got .S1"),
        (lambda a: a.update({name: array[:0] for name, array in a.items()}), "no sample has a label and a modality"),
        (lambda a: a.update(label=a["label"] / 2), "label must hold integers or strings, got float64"),
        (lambda a: a.update(label=a["label"] * 0), "label must hold at least two classes, got only '0'"),
        (lambda a: a.update(classes=np.array(["a", "b"])), r"label at row 2 must lie in 0…1, got 2"),
        (lambda a: a.update(split=np.array(["train", "tset"] * 60)), r"split at row 1 must be one of train, .*'tset'"),
        (lambda a: a.update(id=np.array([1, 1] * 60)), r"id holds '1' more than once"),
        (lambda a: a.update(label=a["label"].astype(object)), r"'label' holds Python objects: save numbers"),
        (lambda a: a.update(classes=np.array(["a", "b", "a"])), "the names in classes must be different"),
        (lambda a: a.update(id=np.ones((ROWS, 2))), r"id must hold one value per row, got shape \(120, 2\)"),
        (lambda a: a.update(split=np.array(["train"] * 9)), r"split must have 120 rows like .*, got shape \(9,\)"),
        (lambda a: a.update({"present/near": np.ones(9, bool)}), "present/near must have 120 rows like"),
        (lambda a: a.update({"near@gaussian-1": np.ones((9, 4))}), "near@gaussian-1 must have 120 rows like the other"),
        (lambda a: a.update({"near@gaussian": a["near"]}), "'near@gaussian' must be called near@KIND-SEVERITY"),
        (lambda a: a.update({"near@gausian-1": a["near"]}), "'near@gausian-1' must be called near@KIND-SEVERITY"),
        (lambda a: a.update({"near.0": a.pop("near")}), "a modality cannot be called 'near.0': rename it"),
        (lambda a: a.update({"": a.pop("near")}), "a modality cannot be called '': rename it"),
        (lambda a: a.update({"\x1b[1m": a.pop("near")}), r"a modality cannot be called '\\x1b\[1m': rename it"),
        (lambda a: a.update(fused=a.pop("near")), "a modality cannot be called 'fused': rename it"),
        (lambda a: a.update(values=a.pop("near")), "a modality cannot be called 'values': rename it"),
        (lambda a: a.update(near=a["near"] * np.float64(1e300)), r"near holds \S+ at row 0, column 0 \(\d+ bad values"),
        (lambda a: a.update(near=a["near"] * np.nan), r"no sample with a label has 'near'$"),
        (
            lambda a: a.update({"near@gaussian-1": np.ones((ROWS, 3))}),
            r"near@gaussian-1 must have shape \(120, 4\), got",
        ),
    ],
)
def test_bad_arrays_are_named(tmp_path, arrays, change, message):
    change(arrays)
    with pytest.raises(UserError, match=message):
        opened(tmp_path, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ("near", "fra")}, "unknown modality 'fra'; did you mean 'far'"),
        ({"modalities": ("near", "label")}, "unknown modality 'label'"),
        ({"label": "colour"}, "an array called colour: name it with data.label"),
        ({"images": ("near:5x5",)}, "near has 4 values per row, which do not form an image of 5x5"),
        ({"images": ("near",)}, r"near has rows of shape \(4,\): give the shape of an image"),
        ({"images": ("near:x",)}, r"data\.images must hold NAME"),
        ({"files": ("mine.npz",)}, r"data\.files needs a folder"),
    ],
)
def test_bad_options_are_refused(tmp_path, arrays, options, message):
    with pytest.raises(UserError, match=message):
        opened(tmp_path, arrays, **options)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    for root, message in ((tmp_path / "notes.txt", "must be an .npz file"), (tmp_path, "holds no .npz file")):
        with pytest.raises(UserError, match=message):
            ArraysConfig(root=str(root)).open()
    with pytest.raises(UserError, match=r"absent\.npz: no such file"):
        ArraysConfig(root=str(tmp_path / "absent.npz")).open()


def test_a_recipe_without_modalities_is_completed_and_saved_complete(tmp_path, arrays):
    file = saved(tmp_path, arrays)
    config = recipe("arrays", epochs=7, data=ArraysConfig(root=str(file)))
    assert config.unsettled
    results = train(config, tmp_path / "run")
    complete = RunConfig.from_plain(RunFolder(tmp_path / "run").read_config())
    assert not complete.unsettled
    assert {name: encoder.name for name, encoder in complete.encoders.items()} == {"near": "mlp", "far": "small-cnn"}
    assert complete == settled(config)
    assert settled(complete) is complete
    assert results["data"]["inputs"]["near"] == "vector of 4"
    assert results["test"]["clean"]["accuracy"]["fused"] > 0.8


def test_the_command_line(tmp_path, arrays, cpsc):
    file = saved(tmp_path, arrays | {"rest": np.ones(ROWS)})
    checked = cpsc("data", "check", "arrays", "--root", file, "--workers", 0)
    assert checked.code == 0, checked.err
    assert "vector of 4" in checked.out
    assert "array 'rest' (float64 of shape (120,))" in " ".join(checked.out.replace("│", " ").split())
    usual = ("--recipe", "arrays", "--root", file, "--epochs", 6, "--set", "encoders.far.name=mlp")
    trained = cpsc("train", *usual, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert "near: vector of 4\n  far: image of 1×5×6" in trained.out
    assert cpsc("evaluate", tmp_path / "run").code == 0
    assert "did you mean 'near'" in cpsc("train", *usual, "--modalities", "nera,far").err


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not beside this copy")
@pytest.mark.parametrize(
    ("options", "rows", "parts"),
    [
        ({"root": "multiview/scene15.npz"}, 4485, None),
        ({"root": "multiview/leaves100.npz"}, 1600, None),
        ({"root": "handwritten.npz", "images": ("pix:16x15",)}, 2000, None),
        ({"root": "emoji_google32.npz"}, 1906, None),
        ("mvsa-single-features", 2592, {"train": 1555, "validation": 518, "test": 519}),
        ("nyu-depth-v2-features", 1449, {"train": 795, "test": 654}),
    ],
)
def test_real_files(options, rows, parts):
    if isinstance(options, str):
        data = recipe(options).to_plain()["data"]
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        options["root"] = options.pop("name") and data["root"].removeprefix("data/").removesuffix("-features.npz")
    dataset = ArraysConfig(**options | {"root": str(REAL / options["root"])}).open()
    assert len(dataset) == rows
    assert (dataset.parts and {part: len(rows) for part, rows in dataset.parts.items()}) == parts
    assert len(dataset.modalities) >= 2


def test_samples_may_lack_a_modality(tmp_path, arrays, cpsc):
    arrays["near"][::4] = np.nan
    arrays["present/far"] = np.arange(ROWS) % 5 != 1
    arrays["far"][1] = np.inf  # is never read
    file = saved(tmp_path, arrays)
    dataset = ArraysConfig(root=str(file)).open()
    kept = np.arange(ROWS) % 20 != 16
    np.testing.assert_array_equal(dataset.presence["near"], (np.arange(ROWS) % 4 != 0)[kept])
    np.testing.assert_array_equal(dataset.presence["far"], arrays["present/far"][kept])
    assert list(dataset.dropped) == [f"{row:03d} (no modality)" for row in range(16, ROWS, 20)]
    checked = cpsc("data", "check", "arrays", "--root", file, "--workers", 0)
    assert checked.code == 0, checked.out
    assert "near: 90 samples can be read" in checked.out
    usual = ("--recipe", "arrays", "--root", file, "--epochs", 6, "--set", "encoders.far.name=mlp")
    assert cpsc("train", *usual, "--out", tmp_path / "run", "-q").code == 0


def test_a_file_that_lacks_samples_lacks_their_modality(tmp_path, arrays):
    ids = np.arange(ROWS)
    saved(tmp_path, {"id": ids, "near": arrays["near"], "label": arrays["label"]}, "a.npz")
    saved(tmp_path, {"id": ids[::-1][9:], "far": arrays["far"][::-1][9:]}, "b.npz")
    dataset = ArraysConfig(root=str(tmp_path)).open()
    np.testing.assert_array_equal(dataset.presence["far"], ids < ROWS - 9)
    assert list(dataset.presence) == ["far"]
    arrays["far"][3, 2, 1] = np.nan
    saved(tmp_path, {"id": ids[::-1][9:], "far": arrays["far"][::-1][9:]}, "b.npz")
    with pytest.raises(UserError, match=rf"b\.npz: far holds nan at row {ROWS - 13}, column 2, 1 \(1 bad"):
        ArraysConfig(root=str(tmp_path)).open()


def test_files_that_repeat_labels_must_agree(tmp_path, arrays):
    names = np.array([f"s{row}" for row in range(ROWS)])
    saved(tmp_path, {"near": arrays["near"], "id": names, "label": arrays["label"]}, "a.npz")
    saved(tmp_path, {"far": arrays["far"][::-1], "id": names[::-1], "label": arrays["label"][::-1]}, "b.npz")
    assert len(ArraysConfig(root=str(tmp_path)).open()) == ROWS
    saved(tmp_path, {"far": arrays["far"][::-1], "id": names[::-1], "label": np.roll(arrays["label"], 1)}, "b.npz")
    with pytest.raises(UserError, match=r"b\.npz: label of sample 's0' is '\d', but '0' in .*a\.npz: label"):
        ArraysConfig(root=str(tmp_path)).open()


def test_a_file_whose_ids_match_no_other_is_named(tmp_path, arrays):
    saved(tmp_path, {"near": arrays["near"], "id": np.arange(ROWS), "label": arrays["label"]}, "a.npz")
    saved(tmp_path, {"far": arrays["far"], "id": np.arange(ROWS) + 1000}, "b.npz")
    with pytest.raises(UserError, match="no sample with a label has 'far': no other file has the ids of its file"):
        ArraysConfig(root=str(tmp_path)).open()


def test_severities_of_stored_corruptions_are_read_as_numbers(tmp_path, arrays):
    arrays |= {"near@gaussian-0.20": arrays["near"] + 1, "near@dead-axis-1e-05": arrays["near"] + 2}
    config = recipe("arrays", data=ArraysConfig(root=str(saved(tmp_path, arrays))))
    found = [(noise.kind, noise.severity) for noise in settled(config).noise if noise.modality == "near"]
    assert found == [("gaussian", 0.2), ("dead-axis", 1e-05)]
    for plus, (kind, severity) in enumerate(found, 1):
        noise = Noise(modality="near", kind=kind, severity=severity)
        stored = config.data.open().corrupted("near", noise, np.arange(3))
        np.testing.assert_allclose(stored, arrays["near"][:3] + plus)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz"])
def test_a_missing_file_or_folder_is_named(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name}: no such file or folder$"):
        ArraysConfig(root=str(tmp_path / name)).open()
