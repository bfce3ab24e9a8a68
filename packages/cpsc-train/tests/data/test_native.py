"""Every data set of the source as it is distributed, in small files of the real formats."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import DataConfig, SplitConfig, Splits
from cpsc_train.data.adapters import sun_rgbd
from cpsc_train.data.media.images import hha, read_deep
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Video, every
from cpsc_train.errors import UserError

pytest.importorskip("PIL", reason="images are read by Pillow")
pytest.importorskip("av", reason="videos are read by PyAV")
pytest.importorskip("h5py", reason="NYU Depth V2 is read by h5py")
spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

REAL = Path(__file__).parents[4].parent / "shared" / "data" / "rgbd" / "sunrgbd-native"
ROOMS = ("bathroom", "bedroom", "kitchen")
SMALL = {"size": 16}
SCENES = {"resized": 20, "size": 16}
MADE = {
    "crema-d": (layouts.crema_d_native, {**SMALL, "split": "speaker", "frames": 3}),
    "kinetics-sounds": (layouts.kinetics_sounds_native, {**SMALL, "frames": 2, "seconds": 2.0}),
    "ave": (layouts.ave_native, {**SMALL, "seconds": 2.0}),
    "mvsa-single": (layouts.mvsa_original, {"size": 32, "tokens": 8}),
    "nyu-depth-v2": (layouts.nyu_native, SCENES),
    "sun-rgbd": (layouts.sun_native, SCENES),
}


@pytest.fixture(scope="session")
def natives(tmp_path_factory):
    made = {}

    def root(name):
        if name not in made:
            made[name] = MADE[name][0](tmp_path_factory.mktemp(name))
        return made[name]

    return root


def opened(name, root, **options):
    return DataConfig.named(name)(root=str(root), **MADE[name][1] | options).open()


@pytest.mark.parametrize("name", MADE)
def test_the_distribution_is_read(name, natives):
    dataset = opened(name, natives(name))
    rows = np.arange(0, len(dataset), 3)
    generators = [np.random.default_rng(row) for row in rows]
    for modality, known in dataset.modalities.items():
        for read in (dataset.read(modality, rows), dataset.augmented(modality, rows, generators)):
            values = dataset.inputs(modality, read)
            assert values.shape == (len(rows), *known.shape)
            if known.bounds is not None:
                assert known.bounds[0] <= values.min() < values.max() <= known.bounds[1]
        np.testing.assert_array_equal(dataset.read(modality, rows), dataset.read(modality, rows))
    splits = Splits.of(dataset, SplitConfig(calibration=0.2, validation=0.2))
    assert sum(splits.sizes.values()) == len(dataset)
    assert not dataset.faults
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301  # what a process that is not forked is given
    for modality in dataset.modalities:
        np.testing.assert_array_equal(again.read(modality, rows), dataset.read(modality, rows))


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".webm"])
def test_frames_are_those_of_their_time(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    layouts.video(path, seconds=4.0)
    frames = Video(path, fps=2.0)
    assert len(frames.at(every)) == 8
    order = [5, 0, 7, 2]
    shades = [float(np.asarray(image).mean()) for image in frames.at(lambda _: order)]
    expected = [255 * (k + 0.5) / 8 for k in order]
    np.testing.assert_allclose(shades, expected, atol=255 / 40 + 4)  # a frame is a fortieth of the time


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".webm"])
def test_the_sound_of_a_video_keeps_its_pitch(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    layouts.video(path, seconds=2.0, tone=440.0)
    samples, rate = read_sound(path)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples[: rate * 3 // 2]))
    assert np.argmax(spectrum) * 2 / 3 == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples[rate // 2 : rate] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_a_video_without_sound_or_frames(recordings, tmp_path):
    layouts.video(tmp_path / "silent.mp4", sound=False)
    with pytest.raises(UserError, match=r"silent\.mp4: has no sound"):
        read_sound(tmp_path / "silent.mp4")
    recordings.record(tmp_path / "a.mp4", seconds=0.5)
    with pytest.raises(UserError, match=r"a\.mp4: has no frames"):
        Video(tmp_path / "a.mp4", 1.0).at(every)


def test_a_video_that_is_cut_off(tmp_path):
    layouts.video(tmp_path / "a.flv", seconds=6.0)
    whole = (tmp_path / "a.flv").read_bytes()
    (tmp_path / "a.flv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.flv: is cut off"):
        Video(tmp_path / "a.flv", 1.0).at(every)


def test_the_event_of_ave_is_cut_out(natives):
    dataset = opened("ave", natives("ave"), frames=1)
    shade = dataset.read("video", np.array([0])).mean()
    assert shade == pytest.approx(255 * 0.4, abs=255 * 0.06)  # the middle of seconds 2 to 6, of 10


def test_recordings_of_kinetics_are_found_by_video_and_second(natives):
    dataset = opened("kinetics-sounds", natives("kinetics-sounds"))
    assert {part: len(rows) for part, rows in dataset.parts.items()} == {"train": 12, "test": 3}
    assert {dataset.classes[label] for label in dataset.labels} == {"bowling", "dribbling basketball", "tickling"}


def test_videos_may_lie_in_a_folder_of_their_part(tmp_path):
    layouts.kinetics_sounds_native(tmp_path)
    (tmp_path / "train").mkdir()
    for folder in ("bowling", "tickling"):
        (tmp_path / folder).rename(tmp_path / "train" / folder)
    assert len(opened("kinetics-sounds", tmp_path)) == 15


def test_a_folder_of_another_class_is_told(tmp_path):
    layouts.kinetics_sounds_native(tmp_path)
    (tmp_path / "tickling").rename(tmp_path / "tying tie")
    dataset = DataConfig.named("kinetics-sounds")(root=str(tmp_path)).load()
    assert {error.kind for error in dataset.faults.values()} == {"unknown class"}
    assert len(dataset.faults) == 5
    assert "tying tie" in str(dataset.notes[0])


def test_crema_d_without_lists(natives):
    with pytest.raises(UserError, match=r"train\.csv: no such list; .* data\.split=speaker"):
        opened("crema-d", natives("crema-d"), split="official")
    assert opened("crema-d", natives("crema-d"), split="stratified").parts is None
    speakers = opened("crema-d", natives("crema-d"))
    by_part = [{speakers.groups[row] for row in rows} for rows in speakers.parts.values()]
    assert sum(map(len, by_part)) == len(set.union(*by_part)) == 10


def test_labels_of_mvsa_agree_or_are_merged(natives):
    agreed, merged = (opened("mvsa-single", natives("mvsa-single"), labels=rule) for rule in ("agree", "merge"))
    assert (len(agreed), len(agreed.dropped)) == (30, 6)
    assert (len(merged), len(merged.dropped)) == (34, 2)
    assert merged.dropped[0] == "31 (labelResultAll.txt:32, positive,negative)"
    assert agreed.read("text", np.array([0, 1])).tolist() == ["café number 1", "café number 2"]
    assert "1 texts are not UTF-8 and are read as cp1252" in str(agreed.notes[1])


def test_nyu_is_turned_upright_and_divided_by_its_own_file(natives):
    import h5py  # noqa: PLC0415  # an extra

    root = natives("nyu-depth-v2")
    dataset = opened("nyu-depth-v2", root, depth="metres", resized=24, size=24)
    assert len(dataset.parts["test"]) == 6
    assert [dataset.classes[label] for label in dataset.labels[:3]] == ["kitchen", "bedroom", "others"]
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as file:
        metres = file["depths"][5].T
    assert dataset.decode("depth", 5).shape == (24, 32)
    np.testing.assert_array_equal(dataset.decode("depth", 5), metres)
    np.testing.assert_allclose(dataset.read("depth", np.array([5]))[0, 0], metres[:, 4:28], atol=1e-6)


def test_depth_of_sun_is_in_metres_and_its_classes_are_nineteen(natives):
    dataset = opened("sun-rgbd", natives("sun-rgbd"), depth="metres")
    assert len(dataset) == 12
    assert sorted(map(len, dataset.parts.values())) == [2, 10]
    assert "gym, which is none of the 19 classes" in dataset.dropped[0]
    metres = dataset.decode("depth", 0)
    assert metres.min() == pytest.approx(0.5)
    assert metres.max() == 8.0
    assert opened("sun-rgbd", natives("sun-rgbd"), depth="hha").modalities["depth"].shape == (3, 16, 16)


def test_separate_trees_keep_sixteen_bits(tmp_path):
    layouts.rgb_and_depth(tmp_path, ROOMS)
    dataset = opened("nyu-depth-v2", tmp_path, depth="metres")
    np.testing.assert_allclose(dataset.decode("depth", 0), np.arange(1000, 1768).reshape(24, 32) / 1000, rtol=1e-6)
    repeated = opened("nyu-depth-v2", tmp_path).decode("depth", 0)
    np.testing.assert_allclose(repeated[..., 1], np.arange(1000, 1768).reshape(24, 32) * 0.0255, rtol=1e-5)
    (tmp_path / "depth" / "train" / "kitchen" / "3.png").unlink()
    with pytest.raises(UserError, match=r"kitchen.3: depth of .*3\.jpg is missing"):
        opened("nyu-depth-v2", tmp_path)
    with pytest.raises(UserError, match="hha needs the camera"):
        DataConfig.named("nyu-depth-v2")(root=str(tmp_path), depth="hha").load().decode("depth", 0)


def test_eight_bits_of_depth_are_no_metres(tmp_path):
    layouts.rgbd(tmp_path, ROOMS)
    with pytest.raises(UserError, match=r"data\.depth must be repeat, got metres"):
        opened("nyu-depth-v2", tmp_path, depth="metres").read("depth", np.array([0]))


def test_hha_of_a_room_whose_geometry_is_known():
    """A camera 1.5 m above a floor looks at a wall 4 m away: heights and angles can be said beforehand."""
    rows, _ = np.indices((120, 160), dtype=np.float64)
    camera = (100.0, 100.0, 80.0, 60.0)
    slope = (rows - 60.0) / 100.0
    floor = np.where(slope > 0, 1.5 / np.maximum(slope, 1e-9), np.inf)
    metres = np.minimum(floor, 4.0).astype(np.float32)
    metres[0, 0] = 0
    found = hha(metres, camera)
    assert found[0, 0].tolist() == [0, 0, 0]
    wall, ground = found[20, 80], found[115, 80]
    assert wall[0] == pytest.approx(310 / 4, rel=1e-3)
    assert ground[0] == pytest.approx(310 * 0.55 / 1.5, rel=1e-3)
    assert ground[1] == pytest.approx(0, abs=2)
    assert found[50, 80][1] == pytest.approx(100 * (1.5 + 0.1 * 4), rel=0.03)
    assert ground[2] == pytest.approx(38, abs=2)
    assert wall[2] == pytest.approx(128, abs=2)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real samples are not beside this copy")
def test_real_scenes_of_sun():
    dataset = DataConfig.named("sun-rgbd")(root=str(REAL), depth="metres").open()
    assert [dataset.classes[label] for label in dataset.labels] == ["office", "office"]
    for row in range(2):
        colour, metres = dataset.decode("rgb", row), dataset.decode("depth", row)
        assert colour.shape[:2] == metres.shape
        assert 0.5 < np.median(metres[metres > 0]) < 8
        assert not list(dataset.examine(row))
    deep = next(REAL.glob("img_0063/depth_bfx/*.png"))
    bits = read_deep(deep).astype(np.int64)
    rotated = (bits >> 3) | ((bits << 13) & 0xFFFF)
    np.testing.assert_allclose(sun_rgbd.metres(read_deep(deep)), np.minimum(rotated / 1000, 8), rtol=1e-6)
