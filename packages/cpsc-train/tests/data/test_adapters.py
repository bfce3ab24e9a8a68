"""Every data set of the source, in its derived layout, with small generated content."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import Loader, Noise, Preprocessing, Shuffled, Splits
from cpsc_train.data.adapters import sun_rgbd
from cpsc_train.data.media.images import read_image
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

pytest.importorskip("PIL", reason="images are read by Pillow")
pytest.importorskip("soundfile", reason="sound is read by soundfile")
spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

LISTS = Path(__file__).parents[4].parent / "shared" / "data" / "annotations"
ROOMS = ("bathroom", "bedroom", "kitchen")
MADE = {
    "crema-d": layouts.crema_d,
    "kinetics-sounds": layouts.kinetics_sounds,
    "ave": layouts.ave,
    "mvsa-single": layouts.mvsa_single,
    "nyu-depth-v2": lambda root: layouts.rgbd(root, ROOMS),
    "sun-rgbd": lambda root: layouts.rgbd(root, ROOMS),
}
SMALL = {"crema-d": {"size": 16}, "kinetics-sounds": {"size": 16}, "ave": {"size": 16}, "mvsa-single": {"size": 32}}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made = {}

    def root(name):
        if name not in made:
            made[name] = MADE[name](tmp_path_factory.mktemp(name))
        return made[name]

    return root


def opened(name, root, **options):
    config = recipe(name).data
    values = {**vars(config), "root": str(root), **SMALL.get(name, {"resized": 20, "size": 16}), **options}
    return type(config)(**values).open()


@pytest.mark.parametrize("name", MADE)
def test_every_sample_has_the_shape_that_is_promised(name, roots):
    dataset = opened(name, roots(name))
    rows = np.arange(0, len(dataset), 5)
    assert len(set(dataset.ids)) == len(dataset.labels) == len(dataset)
    generators = [np.random.default_rng(row) for row in rows]
    for modality, known in dataset.modalities.items():
        for read in (dataset.read(modality, rows), dataset.augmented(modality, rows, generators)):
            values = dataset.inputs(modality, read)
            assert values.shape == (len(rows), *known.shape)
            assert values.dtype == (np.int64 if known.kind == "text" else np.float32)
            if known.bounds is not None:
                assert known.bounds[0] <= values.min() < values.max() <= known.bounds[1]
        np.testing.assert_array_equal(dataset.read(modality, rows), dataset.read(modality, rows))


@pytest.mark.parametrize("name", MADE)
def test_the_official_division_is_taken_as_it_is(name, roots):
    dataset = opened(name, roots(name))
    splits = Splits.draw(dataset.labels, recipe(name).splits, dataset.parts)
    np.testing.assert_array_equal(splits.test, dataset.parts["test"])
    assert sum(splits.sizes.values()) == len(dataset)
    order = Shuffled(len(splits.train), batch_size=8, accumulate=1, seed=0)
    seen = [
        i for batch in Loader(dataset, splits.train, Preprocessing(dataset, splits.train), order) for i in batch.ids
    ]
    assert sorted(seen) == sorted(dataset.ids[row] for row in splits.train)


def test_lists_say_which_class(roots):
    crema = opened("crema-d", roots("crema-d"))
    assert crema.classes[crema.labels[crema.ids.index("1004_DFA_ANG_XX")]] == "ANG"
    assert opened("kinetics-sounds", roots("kinetics-sounds")).classes[27] == "tap dancing"
    ave = opened("ave", roots("ave"))
    assert ave.classes[ave.labels[ave.ids.index("trFe0")]] == "Female speech, woman speaking"
    mvsa = opened("mvsa-single", roots("mvsa-single"))
    assert [mvsa.classes[label] for label in mvsa.labels[[0, 8, 16]]] == ["negative", "neutral", "positive"]


def test_a_recording_in_two_parts_of_ave_is_tested_on_and_told(roots, cpsc, tmp_path):
    dataset = opened("ave", roots("ave"))
    assert dataset.dropped == ("teCh0 (trainSet.txt:25)",)
    assert dataset.ids.index("teCh0") in dataset.parts["test"]


def test_speakers_are_kept_apart(roots):
    dataset = opened("crema-d", roots("crema-d"), split="speaker")
    speakers = [{dataset.ids[row][:4] for row in dataset.parts[part]} for part in ("train", "validation", "test")]
    assert [len(found) for found in speakers] == [7, 1, 2]
    assert len(set.union(*speakers)) == 10


def test_evaluation_sees_the_same_frames_and_training_others(roots):
    dataset = opened("crema-d", roots("crema-d"), frames=2)
    rows = np.arange(6)
    assert dataset.read("video", rows).shape == (6, 2, 3, 16, 16)
    first, again, other = (
        dataset.augmented("video", rows, [np.random.default_rng([seed, row]) for row in rows]) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["nyu-depth-v2", "sun-rgbd"])
def test_colour_and_depth_are_cut_alike(name, roots):
    dataset = opened(name, roots(name))
    rows = np.arange(6)
    colour, depth = (
        dataset.augmented(modality, rows, [np.random.default_rng(row) for row in rows]) for modality in ("rgb", "depth")
    )
    np.testing.assert_allclose(colour, 255 - depth, atol=2.01)  # each half is rounded by itself
    np.testing.assert_allclose(dataset.read("rgb", rows), 255 - dataset.read("depth", rows), atol=2.01)


@pytest.mark.skipif(not LISTS.is_dir(), reason="the real lists are not beside this copy")
def test_the_lists_that_people_have_are_read(tmp_path):
    for name, folder, train, test in (
        ("crema-d", "cremad", 6698, 744),
        ("kinetics-sounds", "kinetics-sounds", 14799, 2597),
    ):
        for file in (LISTS / folder).iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        with pytest.raises(UserError, match=f"is missing, the first of {train + test} faults"):
            opened(name, tmp_path)


@pytest.mark.skipif(not LISTS.is_dir(), reason="the real lists are not beside this copy")
def test_the_annotations_of_ave_are_read(tmp_path):
    """Divided here by order, into parts of the official sizes, since the three lists are rows of this file."""
    lines = (LISTS / "ave" / "Annotations.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4143
    for name, part in (("trainSet", lines[:3339]), ("valSet", lines[3339:3741]), ("testSet", lines[3741:])):
        (tmp_path / f"{name}.txt").write_text("\n".join(part), encoding="utf-8")
    (tmp_path / "AVE").mkdir()
    for line in lines:
        (tmp_path / "AVE" / f"{line.split('&')[1]}.mp4").touch()
    dataset = opened("ave", tmp_path)
    assert len(dataset) + len(dataset.dropped) == 4143
    assert len(dataset) == len({line.split("&")[1] for line in lines}) - 1
    assert "VWi2ENBuTbw (trainSet.txt:27, an event of no length)" in dataset.dropped
    assert len(set(dataset.labels)) == 28


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("crema-d", "train.csv", "1001_DFA_NEU_XX,JOY\n", r"train\.csv:1: emotion must be one of NEU, .* got 'JOY'"),
        ("crema-d", "train.csv", "a,NEU,3\n", r"train\.csv:1: must hold 2 fields"),
        ("crema-d", "train.csv", "../a,NEU\n", r"train\.csv:1: '\.\./a\.wav' leads out of"),
        ("crema-d", "train.csv", "\n", r"train\.csv: lists nothing"),
        ("kinetics-sounds", "my_test.txt", "a,10,31\n", r"my_test\.txt:1: label must lie in 0…30, got '31'"),
        ("ave", "valSet.txt", "Bell&a&good&0&10\n", r"valSet\.txt:1: 'Bell' is not one of the 28"),
        ("ave", "valSet.txt", "Bark&a&good&7&3\n", r"valSet\.txt:1: start and end"),
        ("mvsa-single", "dev.jsonl", '{"id": 1}\n', r"dev\.jsonl:1: must be an object with id, label, text and img"),
        ("mvsa-single", "dev.jsonl", "no json\n", r"dev\.jsonl:1: must be an object"),
        (
            "mvsa-single",
            "dev.jsonl",
            '{"id": 1, "label": "glad", "text": "", "img": "a"}',
            r"dev\.jsonl:1: label must be one of negative",
        ),
        (
            "mvsa-single",
            "dev.jsonl",
            '{"id": 1, "label": "neutral", "text": "", "img": "/etc/a"}',
            r"dev\.jsonl:1: '/etc/a' leads out",
        ),
    ],
)
def test_a_bad_line_is_named(name, file, text, said, tmp_path):
    MADE[name](tmp_path)
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        opened(name, tmp_path)


def test_what_is_missing_is_counted_before_training(tmp_path):
    layouts.crema_d(tmp_path)
    (tmp_path / "AudioWAV" / "1001_DFA_HAP_XX.wav").unlink()
    for frame in (tmp_path / "Image-01-FPS" / "1002_DFA_HAP_XX").iterdir():
        frame.unlink()
    with pytest.raises(
        UserError, match=r"1001_DFA_HAP_XX\.wav: is missing, the first of 2 faults; .* cpsc data check crema-d --root"
    ):
        opened("crema-d", tmp_path)


def test_a_damaged_file_is_named_when_it_is_met(tmp_path):
    layouts.crema_d(tmp_path)
    for path in ((tmp_path / "AudioWAV" / "1001_DFA_NEU_XX.wav"), *(tmp_path / "Image-01-FPS").rglob("*.jpg")):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    dataset = opened("crema-d", tmp_path)
    row = np.array([dataset.ids.index("1001_DFA_NEU_XX")])
    with pytest.raises(UserError, match=r"1001_DFA_NEU_XX\.wav: is a pointer of Git LFS"):
        dataset.read("audio", row)
    with pytest.raises(UserError, match=r"0000\d\.jpg: is a pointer of Git LFS"):
        dataset.read("video", row)


def test_images_in_odd_forms(tmp_path):
    from PIL import Image  # noqa: PLC0415  # an extra

    grey = np.linspace(0, 255, 12, dtype=np.uint8).reshape(3, 4)
    for name, image in (
        ("grey.png", Image.fromarray(grey)),
        ("palette.png", Image.fromarray(grey).convert("P")),
        ("cmyk.jpg", Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK")),
        ("deep.png", Image.fromarray(grey.astype(np.uint16) * 257)),
    ):
        image.save(tmp_path / name)
        read = read_image(tmp_path / name)
        assert (read.mode, read.size) == ("RGB", (4, 3))
    np.testing.assert_array_equal(np.asarray(read)[..., 0], grey)
    turned = Image.fromarray(grey)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (3, 4)
    (tmp_path / "cut.png").write_bytes((tmp_path / "grey.png").read_bytes()[:50])
    with pytest.raises(UserError, match=r"cut\.png: is not a readable image"):
        read_image(tmp_path / "cut.png")


def test_one_image_is_no_pair(tmp_path):
    layouts.rgbd(tmp_path, ROOMS)
    layouts.picture(tmp_path / "train" / "kitchen" / "0.png", 30, 30)
    dataset = opened("nyu-depth-v2", tmp_path)
    with pytest.raises(UserError, match=r"kitchen/0\.png: must hold colour and depth side by side"):
        dataset.read("rgb", np.array([dataset.ids.index("train/kitchen/0")]))


def test_a_folder_that_is_no_class(tmp_path):
    layouts.rgbd(tmp_path, (*ROOMS, "attic"))
    with pytest.raises(UserError, match="attic: is not one of the 19 classes"):
        opened("sun-rgbd", tmp_path)
    assert "attic" in opened("nyu-depth-v2", tmp_path).classes
    assert len(sun_rgbd.CLASSES) == 19


@pytest.mark.parametrize("name", MADE)
def test_a_folder_that_is_not_there(name, tmp_path):
    with pytest.raises(UserError, match="no such folder: set the folder of the data set with --root"):
        opened(name, tmp_path / "absent")


def test_text_takes_no_noise(roots):
    dataset = opened("mvsa-single", roots("mvsa-single"))
    with pytest.raises(UserError, match="text-gaussian-1: text is text"):
        Noise(modality="text", kind="gaussian", severity=1).check(dataset.modalities["text"])


def test_statistics_are_fitted_on_what_memory_holds(roots, monkeypatch):
    dataset = opened("crema-d", roots("crema-d"))
    rows, asked = np.arange(40), []
    values = 257 * (1 + 3 * 22050 // 353)
    monkeypatch.setattr("cpsc_train.data.preprocessing.MOST", 10 * values)
    read = dataset.read
    monkeypatch.setattr(dataset, "read", lambda modality, rows: asked.append(rows) or read(modality, rows))
    Preprocessing(dataset, rows)
    assert [list(found) for found in asked] == [[0, 4, 8, 13, 17, 21, 26, 30, 34, 39]]
