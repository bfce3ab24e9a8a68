from __future__ import annotations

import gzip
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import Splits, preparation
from cpsc_train.data.adapters.av_digits import IMAGES, LABELS, AVDigitsConfig
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

REAL = Path(__file__).parents[4].parent / "shared" / "data" / "av-digits"

pytest.importorskip("soundfile", reason="sound is read by soundfile")
SPEAKERS = ("theo", "nicolas", "ann")


def idx(values):
    header = bytes((0, 0, 8, values.ndim)) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ten digits, three speakers, ten recordings each, in the layout of the real data."""
    root = tmp_path_factory.mktemp("av")
    (root / "recordings").mkdir()
    for digit in range(10):
        for speaker in SPEAKERS:
            for index in range(10):
                generator = np.random.default_rng([digit, index])
                samples = generator.normal(0, 3000, 2000 + 700 * index).astype("<i2")
                with wave.open(str(root / "recordings" / f"{digit}_{speaker}_{index}.wav"), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(8000)
                    file.writeframes(samples.tobytes())
    labels = np.repeat(np.arange(10), 35)
    images = np.zeros((350, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = labels, np.arange(350) % 35
    (root / IMAGES).write_bytes(idx(images))
    (root / LABELS).write_bytes(idx(labels))
    return root


@pytest.fixture
def copy(made, tmp_path):
    for file in made.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(made)).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(made)).write_bytes(file.read_bytes())
    return tmp_path


def test_every_recording_has_an_image_of_its_digit_and_no_image_serves_twice(made):
    dataset = AVDigitsConfig(root=str(made)).open()
    rows = np.arange(len(dataset))
    assert len(dataset) == 300
    images, sounds = dataset.read("image", rows), dataset.inputs("audio", dataset.read("audio", rows))
    assert images.shape == (300, 1, 28, 28)
    assert sounds.shape == (300, 1, 32, 32)
    np.testing.assert_array_equal(images[:, 0, 0, 0], dataset.labels)
    assert len({(int(a), int(b)) for a, b in images[:, 0, 0, :2]}) == 300
    assert np.isfinite(sounds).all()


def test_divisions(made):
    config = AVDigitsConfig(root=str(made))
    official = config.open()
    assert {dataset_id[-1] for dataset_id in np.array(official.ids)[official.parts["test"]]} == set("01234")
    speaker = replace(config, split="speaker").open()
    splits = Splits.draw(speaker.labels, recipe("av-digits").splits, speaker.parts)
    of = {part: {speaker.ids[row].split("_")[1] for row in getattr(splits, part)} for part in splits.sizes}
    assert of == {"train": {"ann"}, "calibration": {"ann"}, "validation": {"nicolas"}, "test": {"theo"}}
    with pytest.raises(UserError, match="speaker 'bob' has no recordings"):
        replace(config, split="speaker", test_speaker="bob").open()
    with pytest.raises(UserError, match="must differ"):
        replace(config, test_speaker="nicolas")


def test_pairing_is_a_matter_of_its_seed(made):
    config = AVDigitsConfig(root=str(made))
    rows = np.arange(300)
    first, again, other = (replace(config, pairing_seed=s).open().read("image", rows) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def spoil(name, held):
    return lambda root: (root / name).write_bytes(held)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoil("recordings/nine_theo_1.wav", b"RIFF"), r"nine_theo_1\.wav: must be named digit_speaker_index"),
        (spoil("recordings/0_theo_1.wav", b"RIFF"), r"0_theo_1\.wav: is not a readable sound file"),
        (spoil(IMAGES, b"no gzip"), "idx3-ubyte.gz: is not a readable gzip file"),
        (spoil(IMAGES, idx(np.zeros((350, 28, 28)))[:60]), "idx3-ubyte.gz: is not a readable gzip file"),
        (spoil(IMAGES, gzip.compress(b"\0\0\x08\x01\0\0\0\1\0")), "is not an idx file of bytes with 3 dimensions"),
        (spoil(IMAGES, idx(np.zeros((350, 8, 8)))), "images must have 28×28 pixels"),
        (spoil(LABELS, idx(np.zeros(7))), "holds 7 labels for 350 images"),
        (spoil(LABELS, idx(np.zeros(350))), "has 0 images of 1 for 30 recordings"),
        (
            spoil(IMAGES, gzip.compress(bytes((0, 0, 8, 3)) + b"\xff\xff\xff\xff" * 3 + b"\0")),
            "must hold 4294967295 × 4294967295 × 4294967295 bytes, got 1",
        ),
    ],
)
def test_bad_files_are_named(copy, change, said):
    change(copy)
    with pytest.raises(UserError, match=said):
        AVDigitsConfig(root=str(copy)).open()


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="set the folder of the data set with --root"):
        AVDigitsConfig(root=str(tmp_path / "absent")).open()
    with pytest.raises(UserError, match="holds no recordings"):
        AVDigitsConfig(root=str(tmp_path)).open()


def test_the_recipe_runs(made, cpsc, tmp_path):
    outcome = cpsc(
        *("train", "--recipe", "av-digits", "--root", made, "--epochs", 3, "--out", tmp_path / "run"),
        *("--set", "method.warmup=1", "--set", "splits.calibration=0.2", "--set", "splits.validation=0.2", "-q"),
    )
    assert outcome.code == 0, outcome.err
    assert "without-audio" in outcome.out


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside this copy")
def test_the_real_recordings():
    dataset = AVDigitsConfig(root=str(REAL)).open()
    assert len(dataset) == 3000
    assert np.bincount(dataset.labels).tolist() == [300] * 10
    assert len(dataset.parts["test"]) == 300


def test_packed_recordings_are_read_as_the_files_are(made, tmp_path):
    preparation.pack(AVDigitsConfig(root=str(made)), str(tmp_path / "packed"))
    files, packed = (AVDigitsConfig(root=str(root)).open() for root in (made, tmp_path / "packed"))
    assert packed.ids == files.ids
    for modality in files.modalities:
        np.testing.assert_array_equal(
            packed.read(modality, np.arange(len(packed))), files.read(modality, np.arange(len(files)))
        )
