"""UTD-MHAD and AVLetters: recordings of different lengths in arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import SplitConfig, Splits, preparation
from cpsc_train.data.adapters.avletters import FILE, AVLettersConfig
from cpsc_train.data.adapters.utd_mhad import DEPTH, SERIES, UTDMHADConfig
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

REAL = Path(__file__).parents[4].parent / "shared" / "data"
there = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside this copy")


def joined(lengths, *shape):
    """Return ramps from 0 to the length − 1, one after the other, and their offsets."""
    ramps = np.concatenate([np.arange(n, dtype=np.float32) for n in lengths])
    return np.broadcast_to(ramps.reshape(-1, *[1] * len(shape)), (len(ramps), *shape)).copy(), np.cumsum([0, *lengths])


@pytest.fixture
def utd():
    """Four actions, eight subjects, two trials."""
    action, subject, trial = (x.ravel() + 1 for x in np.meshgrid(range(4), range(8), range(2), indexing="ij"))
    inertial, inertial_offset = joined(30 + action, 6)
    skeleton, skeleton_offset = joined(10 + subject, 20, 3)
    return {
        "action": action.astype(np.uint8),
        "subject": subject,
        "trial": trial,
        "inertial": inertial + np.repeat(action, 30 + action)[:, None] * 40,
        "inertial_offset": inertial_offset,
        "skeleton": skeleton.astype(np.float16),
        "skeleton_offset": skeleton_offset,
        "depth": (action[:, None, None, None] * np.ones((16, 48, 64)) * 30).astype(np.uint8),
    }


@pytest.fixture
def letters():
    letter, speaker, repetition = (x.ravel() for x in np.meshgrid(range(26), range(10), range(3), indexing="ij"))
    mfcc, mfcc_offset = joined(23 + letter, 26)
    lips, lips_offset = joined(12 + letter, 30, 40)
    return {
        "letter": letter.astype(np.uint8),
        "speaker": speaker,
        "repetition": repetition + 1,
        "mfcc": mfcc,
        "mfcc_offset": mfcc_offset,
        "lips": lips.astype(np.uint8),
        "lips_offset": lips_offset.astype(np.int32),
    }


def utd_in(folder, arrays):
    np.savez(folder / DEPTH, depth=arrays["depth"])
    np.savez(folder / SERIES, **{name: array for name, array in arrays.items() if name != "depth"})
    return UTDMHADConfig(root=str(folder))


def letters_in(folder, arrays):
    np.savez(folder / FILE, **arrays)
    return AVLettersConfig(root=str(folder))


def test_actions_are_brought_to_one_length_and_divided_by_subject(tmp_path, utd):
    dataset = utd_in(tmp_path, utd).open()
    assert {name: one.shape for name, one in dataset.modalities.items()} == {
        "depth": (16, 48, 64),
        "skeleton": (32, 60),
        "inertial": (64, 6),
    }
    rows = np.arange(len(dataset))
    inertial = dataset.read("inertial", rows)
    for step, last in ((0, 0), (-1, 1)):
        expected = utd["action"] * 40 + last * (29 + utd["action"])
        np.testing.assert_array_equal(inertial[:, step, 0], expected)
    np.testing.assert_allclose(
        np.diff(inertial[:, :, 0], axis=1), (29 + utd["action"])[:, None] / 63 + np.zeros(63), 1e-3
    )
    assert (dataset.read("skeleton", rows)[:, 0] == 0).all()  # of equal joints, measured from one of them
    assert {dataset.ids[row].split("_")[1] for row in dataset.parts["test"]} == {"s2", "s4", "s6", "s8"}
    assert set(np.array(dataset.groups)[dataset.parts["train"]]) == {f"subject {number}" for number in (1, 3, 5, 7)}
    one = replace(utd_in(tmp_path, utd), test_subjects=(3,)).open()
    assert len(one.parts["test"]) == 8
    assert dataset.classes[:2] == ("swipe left", "swipe right")


def test_letters_are_divided_by_repetition_or_speaker(tmp_path, letters):
    config = letters_in(tmp_path, letters)
    dataset = config.open()
    assert {name: one.shape for name, one in dataset.modalities.items()} == {"audio": (24, 26), "lips": (12, 30, 40)}
    np.testing.assert_allclose(dataset.read("audio", np.array([40]))[0, -1], 23 + letters["letter"][40] - 1)
    assert {dataset.ids[row][1] for row in dataset.parts["test"]} == {"3"}
    assert Splits.of(dataset, SplitConfig()).sizes == {"train": 416, "calibration": 52, "validation": 52, "test": 260}
    speakers = replace(config, split="speaker").open()
    assert set(np.array(speakers.groups)[speakers.parts["test"]]) == {"speaker 7", "speaker 8", "speaker 9"}
    checked = preparation.check(replace(config, split="speaker"), SplitConfig(), by_group=True)
    assert not checked.faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("subject"), r"skeleton\.npz: has no array 'subject'"),
        (lambda a: a["action"].__setitem__(5, 28), r"action at row 5 must lie in 1…27, got 28"),
        (lambda a: a.update(trial=a["trial"] / 2), "trial must hold one integer per row, got float64"),
        (lambda a: a.update(inertial=a["inertial"][:, :5]), r"inertial must have shape \(steps, 6\)"),
        (lambda a: a["skeleton_offset"].__setitem__(-1, 7), r"skeleton_offset must hold 65 integers from 0 to"),
        (lambda a: a["skeleton_offset"].__setitem__(4, a["skeleton_offset"][3]), "skeleton of row 3 is empty"),
        (lambda a: a["inertial"].__setitem__((-1, 2), np.nan), "inertial of row 63 holds values that are not finite"),
        (
            lambda a: a.update(depth=a["depth"][:, :8]),
            r"depth16\.npz: depth must have shape \(64, 16, 48, 64\) of uint8",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, utd, change, message):
    change(utd)
    with pytest.raises(UserError, match=message):
        utd_in(tmp_path, utd).open()


def test_bad_options_are_refused(tmp_path, letters):
    for make, message in (
        (lambda: UTDMHADConfig(test_subjects=(9,)), r"data\.test_subjects must be some of 1…8"),
        (lambda: UTDMHADConfig(inertial_steps=0), r"data\.inertial_steps must be at least 1"),
        (lambda: AVLettersConfig(test_speakers=()), r"data\.test_speakers must be some of 0…9"),
        (lambda: AVLettersConfig(frames=0), r"data\.frames must be at least 1"),
        (lambda: AVLettersConfig(root=str(tmp_path / "absent")).open(), r"avletters\.npz: no such file"),
    ):
        with pytest.raises(UserError, match=message):
            make()


def test_the_recipes_run(tmp_path, utd, letters, cpsc):
    utd_in(tmp_path, utd)
    letters_in(tmp_path, letters)
    quick = ("--root", tmp_path, "--method", "joint", "--epochs", 1, "-q", "--set", "noise=[]")
    for name in ("utd-mhad", "avletters"):
        usual = ("--set", "splits.calibration=10", "--set", "splits.validation=0.25")
        outcome = cpsc("train", "--recipe", name, "--out", tmp_path / name, *quick, *usual)
        assert outcome.code == 0, outcome.err
    assert [one.name for one in recipe("utd-mhad").encoders.values()] == ["small-cnn", "temporal-cnn", "temporal-cnn"]


@there
def test_the_real_actions():
    dataset = UTDMHADConfig(root=str(REAL / "utd-mhad")).open()
    assert (len(dataset), len(dataset.parts["train"]), len(dataset.parts["test"])) == (861, 431, 430)
    assert np.bincount(dataset.labels).tolist() == [32] * 7 + [31] + [32] * 14 + [31] + [32] * 3 + [31]
    for name, modality in dataset.modalities.items():
        assert dataset.read(name, np.array([0, 860])).shape == (2, *modality.shape)


@there
@pytest.mark.parametrize(("split", "test"), [("repetition", 260), ("speaker", 234)])
def test_the_real_letters(split, test):
    dataset = AVLettersConfig(root=str(REAL / "avletters"), split=split).open()
    assert np.bincount(dataset.labels).tolist() == [30] * 26
    assert len(dataset.parts["test"]) == test
