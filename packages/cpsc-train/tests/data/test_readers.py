"""Readers of single samples: the same model inputs as those of the data set."""

import numpy as np
import pytest

from cpsc_train.data import DataConfig, Modality
from cpsc_train.data.families.series import resampled
from cpsc_train.data.readers import SeriesReader
from cpsc_train.errors import DataError


def opened(name, root, **options):
    config = DataConfig.named(name)(root=str(root), **options)
    return config.open(), config


def of_dataset(dataset, modality, row):
    return dataset.inputs(modality, dataset.read(modality, np.array([row])))[0]


def of_reader(reader, given):
    return reader.inputs(reader.read(given)[None])[0]


@pytest.fixture(scope="module")
def posts(layouts, tmp_path_factory):
    return opened("mvsa-single", layouts.mvsa_single(tmp_path_factory.mktemp("mvsa")), size=32, tokens=8)


@pytest.fixture(scope="module")
def clips(crema_native):
    return opened("crema-d", crema_native, split="stratified", size=32, seconds=0.5)


@pytest.fixture(scope="module")
def scenes(layouts, tmp_path_factory):
    root = layouts.rgb_and_depth(tmp_path_factory.mktemp("rgbd"), ("kitchen", "office"))
    return opened("nyu-depth-v2", root, resized=20, size=16)


def test_images_of_files_bytes_arrays_and_pillow(posts):
    from PIL import Image  # noqa: PLC0415  # an extra

    dataset, config = posts
    reader = config.readers(dataset.modalities)["image"]
    for row in (0, 7):
        file = dataset.sources(row)["image.jpg"]
        with Image.open(file) as image:
            for given in (file, str(file), file.read_bytes(), np.asarray(image), image):
                np.testing.assert_array_equal(of_reader(reader, given), of_dataset(dataset, "image", row))


def test_texts_and_text_files(posts, tmp_path):
    dataset, config = posts
    reader = config.readers(dataset.modalities)["text"]
    text = str(dataset.read("text", np.array([3]))[0])
    (tmp_path / "a.txt").write_text(text + "\n", encoding="utf-8")
    for given in (text, tmp_path / "a.txt", text.encode()):
        np.testing.assert_array_equal(of_reader(reader, given), of_dataset(dataset, "text", 3))


def test_sound_and_frames(clips):
    dataset, config = clips
    readers = config.readers(dataset.modalities)
    sources = dataset.sources(0)
    for modality, file in (("audio", sources["sound.wav"]), ("video", sources["video.flv"])):
        for given in (file, file.read_bytes()):
            np.testing.assert_array_equal(of_reader(readers[modality], given), of_dataset(dataset, modality, 0))
    np.testing.assert_array_equal(
        of_reader(readers["video"], dataset.decode("video", 0)), of_dataset(dataset, "video", 0)
    )


def test_waveforms_at_their_own_rate(clips):
    from cpsc_train.data.media.sound import read_sound  # noqa: PLC0415  # needs an extra

    dataset, config = clips
    waveform, rate = read_sound(dataset.sources(0)["sound.wav"])
    reader = config.readers(dataset.modalities)["audio"]
    np.testing.assert_array_equal(of_reader(reader, (waveform, rate)), of_dataset(dataset, "audio", 0))
    own = dataset.read("audio", np.array([0]))[0]
    np.testing.assert_array_equal(of_reader(reader, own), of_dataset(dataset, "audio", 0))


def test_a_folder_of_frames(layouts, tmp_path):
    dataset, config = opened("crema-d", layouts.crema_d(tmp_path), size=32, frames=2)
    folder = tmp_path / "Image-01-FPS" / dataset.ids[4]
    reader = config.readers(dataset.modalities)["video"]
    np.testing.assert_array_equal(of_reader(reader, folder), of_dataset(dataset, "video", 4))
    with pytest.raises(DataError, match="holds no images"):
        reader.read(tmp_path / "AudioWAV")


@pytest.mark.parametrize("form", ["repeat", "metres"])
def test_colour_and_depth(scenes, form):
    dataset, config = scenes
    dataset, config = opened("nyu-depth-v2", config.root, resized=20, size=16, depth=form)
    readers, sources = config.readers(dataset.modalities), dataset.sources(3)
    for modality, file in (("rgb", sources["rgb.jpg"]), ("depth", sources["depth.png"])):
        np.testing.assert_array_equal(of_reader(readers[modality], file), of_dataset(dataset, modality, 3))
    millimetres = np.arange(1000, 1768, dtype=np.float32).reshape(24, 32)
    np.testing.assert_array_equal(of_reader(readers["depth"], millimetres / 1000), of_dataset(dataset, "depth", 3))


def test_depth_of_an_unknown_unit_is_refused(layouts, tmp_path):
    dataset, config = opened("sun-rgbd", layouts.sun_native(tmp_path), resized=20, size=16)
    with pytest.raises(DataError, match="the unit of its depth is unknown: give it in metres"):
        config.readers(dataset.modalities)["depth"].read(dataset.sources(0)["depth.png"])


def test_recordings_of_any_length():
    recordings = np.random.default_rng(0).normal(size=(25, 6)).astype(np.float32)
    arrays = {"x": recordings, "x_offset": np.array([0, 10, 25])}
    expected = resampled(arrays, "x", "file", rows=2, shape=(6,), length=12)
    reader = SeriesReader(Modality(kind="vector", shape=(12, 6)), (6,))
    np.testing.assert_array_equal(reader.read(recordings[10:]), expected[1])
    np.testing.assert_array_equal(reader.read(expected[1].ravel()), expected[1])


@pytest.mark.parametrize(
    ("modality", "given", "message"),
    [
        ("image", np.zeros((5, 5, 4)), "must be an image file, or an image of shape"),
        ("image", "absent.jpg", r"absent\.jpg: no such file"),
        ("image", b"no image", "8 bytes: is not a readable image"),
        ("image", 3.0, r"must be an image file.*, got shape \(\)"),
        ("text", 3, "must be a text, the path of a text file, or its content as bytes, got int"),
    ],
)
def test_bad_samples(posts, modality, given, message):
    dataset, config = posts
    with pytest.raises(DataError, match=message):
        config.readers(dataset.modalities)[modality].read(given)


@pytest.mark.parametrize("given", [np.zeros((2, 2, 2)), np.zeros(0), (np.zeros(9), 0), (np.zeros((2, 2)), 8000)])
def test_bad_waveforms(clips, given):
    dataset, config = clips
    with pytest.raises(DataError, match="must be a sound file, a waveform of shape"):
        config.readers(dataset.modalities)["audio"].read(given)
