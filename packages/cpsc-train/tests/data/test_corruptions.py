"""Each kind of corruption against an independent computation, and what all kinds have in common."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, signal

from cpsc_train.data import Modality, Noise
from cpsc_train.data.noise import KINDS, LEVELS
from cpsc_train.data.noise.values import BESIDE
from cpsc_train.data.preprocessing import Scale, Unscaled

RATE = 8000
PHOTO = Modality(kind="image", shape=(3, 24, 32), bounds=(0.0, 255.0))
DEPTH = Modality(kind="image", shape=(1, 30, 20), bounds=(0.0, 10.0))
SIGNED = Modality(kind="image", shape=(2, 16, 16), bounds=(-1.0, 1.0))
CLIP = Modality(kind="image", shape=(4, 3, 16, 20), bounds=(0.0, 255.0))
VECTOR = Modality(kind="vector", shape=(40,))
INERTIAL = Modality(kind="vector", shape=(50, 6), axis=1)
SKELETON = Modality(kind="vector", shape=(5, 40, 3), axis=0)
SPEECH = Modality(kind="sound", shape=(1, 32, 32), rate=RATE)
POSTS = Modality(kind="text", shape=(16,), vocabulary=100)
MODALITIES = {
    "photo": PHOTO,
    "depth": DEPTH,
    "signed": SIGNED,
    "clip": CLIP,
    "vector": VECTOR,
    "inertial": INERTIAL,
    "skeleton": SKELETON,
    "speech": SPEECH,
    "posts": POSTS,
}
UNIT = Scale(np.float32(0), np.float32(1))
COUNT = 6
IDS = [f"s{i}" for i in range(COUNT)]
WORDS = "I was walking home, and the WEATHER was fine & dry  today"
PAIRS = [
    (kind, name)
    for kind, corruption in KINDS.items()
    for name, modality in MODALITIES.items()
    if corruption.misfit(name, modality) is None
]


def samples(name):
    """Smooth values over the valid range; waveforms of a moving tone; sentences."""
    modality, generator = MODALITIES[name], np.random.default_rng(0)
    if modality.kind == "text":
        return np.array([WORDS] * COUNT, dtype=object)
    if modality.kind == "sound":
        time = np.arange(RATE) / RATE
        return (0.3 * np.sin(2 * np.pi * (200 + 50 * np.arange(COUNT)[:, None]) * time)).astype(np.float32)
    noise = generator.standard_normal((COUNT, *modality.shape))
    smooth = ndimage.gaussian_filter(noise, (*(0,) * (noise.ndim - 2), 1, 1)) if noise.ndim > 2 else noise
    low, high = modality.bounds or (-3.0, 3.0)
    scaled = low + (high - low) * (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return scaled.astype(np.float32)


def corrupt(kind, severity, name, values=None, ids=IDS, scale=UNIT):
    noise = Noise(modality=name, kind=kind, severity=severity)
    values = samples(name) if values is None else values
    modality = MODALITIES[name]
    values = noise.of_samples(values, ids, modality)
    return (
        values
        if modality.kind in {"text", "sound"} and noise.corruption.of_samples
        else (noise.of_inputs(values, ids, modality, scale))
    )


def distance(clean, noisy):
    if clean.dtype == object:
        return np.mean(
            [1 - len(set(a.split()) & set(b.split())) / len(set(a.split())) for a, b in zip(clean, noisy, strict=True)]
        )
    return float(np.abs(noisy.astype(np.float64) - clean).mean())


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_every_kind_keeps_shape_type_and_range_and_its_input(kind, name):
    modality, clean = MODALITIES[name], samples(name)
    before = clean.copy()
    for severity in KINDS[kind].levels_of(modality):
        noisy = corrupt(kind, severity, name, clean)
        assert noisy.shape == clean.shape
        assert noisy.dtype == clean.dtype
        low, high = modality.bounds or ((-1, 1) if modality.kind == "sound" else (-np.inf, np.inf))
        if modality.bounds or (modality.kind != "text" and KINDS[kind].of_samples):
            assert noisy.min() >= low
            assert noisy.max() <= high
        if modality.kind != "text":
            assert np.isfinite(noisy).all()
    np.testing.assert_array_equal(clean, before)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
@given(order=st.permutations(range(COUNT)))
@settings(max_examples=3, deadline=None)
def test_a_draw_does_not_depend_on_batch_or_order(kind, name, order):
    severity, clean = KINDS[kind].levels_of(MODALITIES[name])[2], samples(name)
    whole = corrupt(kind, severity, name, clean)
    ids = [IDS[i] for i in order]
    np.testing.assert_array_equal(corrupt(kind, severity, name, clean[list(order)], ids), whole[list(order)])
    np.testing.assert_array_equal(corrupt(kind, severity, name, clean[3:4], IDS[3:4])[0], whole[3])


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_levels_are_ordered_and_move_samples_further(kind, name):
    clean, severities = samples(name), KINDS[kind].levels_of(MODALITIES[name])
    ascending = severities[0] < severities[-1]
    assert list(severities) == sorted(severities, reverse=not ascending)
    ids = [f"n{i}" for i in range(60)]
    many = np.concatenate([clean] * 10)
    distances = [distance(many, corrupt(kind, severity, name, many, ids)) for severity in severities]
    assert distances[0] > 0
    assert all(a <= b * 1.0001 for a, b in pairwise(distances))
    assert distances[4] > distances[0]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_the_smallest_severity_leaves_samples_almost_alone(kind, name):
    corruption = KINDS[kind]
    smallest = {"jpeg": 95.0, "snr": 120.0, "babble": 120.0}.get(kind, 1e-6)
    clean = samples(name)
    noisy = corrupt(kind, smallest, name, clean)
    if kind == "dead-axis":  # at least one axis
        axis = MODALITIES[name].axis + 1
        changed = (noisy != clean).any(tuple(d for d in range(clean.ndim) if d not in {0, axis}))
        assert (changed.sum(1) <= 1).all()
    elif clean.dtype == object:
        assert (noisy == clean).all()
    else:
        low, high = MODALITIES[name].bounds or (-1.0, 1.0)
        assert distance(clean, noisy) <= (high - low) * (0.05 if kind == "jpeg" else 1e-4)
    corruption.check(smallest)


def test_a_modality_gets_the_kinds_that_fit_it():
    fits = {name: {kind for kind, other in PAIRS if other == name} for name in MODALITIES}
    assert fits["photo"] == {
        "gaussian",
        "salt-and-pepper",
        "dropout",
        "blur",
        "darkness",
        "contrast",
        "jpeg",
        "occlusion",
    }
    assert fits["photo"] == fits["depth"] == fits["clip"] == fits["signed"]
    assert fits["vector"] == {"gaussian", "dropout"}
    assert fits["inertial"] == fits["skeleton"] == {"gaussian", "dropout", "dead-axis", "drift"}
    assert fits["speech"] == {
        "gaussian", "dropout", "snr", "impulses", "clipping", "babble", "dropped-frames"
    }  # fmt: skip
    assert fits["posts"] == {"words", "words-dropped", "words-mistyped"}
    silent = Modality(kind="sound", shape=(1, 8, 8))
    assert KINDS["babble"].misfit("a", silent) == "babble noise needs the sampling rate of a, which is not known"
    assert (
        KINDS["jpeg"].misfit("a", Modality(kind="image", shape=(1, 8, 8))) == "a has no bounds, which jpeg noise needs"
    )
    assert KINDS["drift"].misfit("v", VECTOR) == "drift noise is for recordings with axes, and v has none"


@pytest.mark.parametrize("name", ["photo", "depth", "clip"])
def test_blur_is_a_gaussian_filter_of_each_channel(name):
    clean = samples(name)
    planes = clean.reshape(-1, *clean.shape[-2:])
    sigma = 0.05 * min(clean.shape[-2:])
    expected = np.stack([ndimage.gaussian_filter(plane, sigma, mode="nearest") for plane in planes])
    np.testing.assert_allclose(corrupt("blur", 0.05, name), expected.reshape(clean.shape), rtol=1e-5)


@pytest.mark.parametrize("name", ["photo", "depth", "signed", "clip"])
def test_darkness_and_contrast_scale_towards_black_and_towards_the_mean(name):
    clean, low = samples(name), MODALITIES[name].bounds[0]
    np.testing.assert_allclose(corrupt("darkness", 0.7, name), low + 0.3 * (clean - low), rtol=1e-5, atol=1e-5)
    mean = clean.astype(np.float64).mean((-2, -1), keepdims=True)
    np.testing.assert_allclose(corrupt("contrast", 0.8, name), 0.2 * clean + 0.8 * mean, rtol=1e-4, atol=1e-5)


def test_jpeg_is_what_pillow_returns():
    clean = samples("photo")
    (picture, *_) = np.rint(clean).astype(np.uint8).transpose(0, 2, 3, 1)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=10)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    np.testing.assert_allclose(corrupt("jpeg", 10.0, "photo")[0], expected, atol=1e-4)
    frames, clips = corrupt("jpeg", 10.0, "clip"), samples("clip")
    alone = Noise(modality="clip", kind="jpeg", severity=10.0).of_inputs(clips[0], IDS[:4], PHOTO, UNIT)
    np.testing.assert_array_equal(frames[0], alone)
    depth = corrupt("jpeg", 95.0, "depth")
    assert np.abs(depth - samples("depth")).max() < 0.4  # of 10 m


def test_occlusion_covers_the_stated_fraction_by_one_rectangle_in_all_frames():
    large = Modality(kind="image", shape=(1, 200, 300), bounds=(0.0, 1.0))
    ids = [str(i) for i in range(50)]
    clean = np.ones((50, *large.shape), np.float32)
    small, big = (
        Noise(modality="x", kind="occlusion", severity=s).of_inputs(clean, ids, large, UNIT)[:, 0] == 0
        for s in (0.2, 0.6)
    )
    np.testing.assert_allclose(small.mean((1, 2)), 0.2, atol=0.01)
    np.testing.assert_allclose(big.mean((1, 2)), 0.6, atol=0.01)
    assert (big | ~small).mean() > 0.999  # the larger one contains the smaller one but for rounding
    rows, columns = small[0].any(1), small[0].any(0)
    np.testing.assert_array_equal(small[0], rows[:, None] & columns)
    assert len({tuple(mask.any(1)) for mask in small}) > 25
    frames = corrupt("occlusion", 0.3, "clip") != samples("clip")
    assert (frames == frames[:, :1, :1]).mean() > 0.99  # a value that was 0 before stays


def test_words_are_dropped_or_mistyped_at_the_stated_rate():
    texts = np.array([WORDS] * 2000, dtype=object)
    ids = [str(i) for i in range(2000)]
    left = corrupt("words-dropped", 0.3, "posts", texts, ids)
    assert np.mean([len(text.split()) for text in left]) == pytest.approx(12 * 0.7, abs=0.15)
    remaining = iter(WORDS.split())
    assert all(word in remaining for word in left[0].split())  # in order
    assert set(corrupt("words-dropped", 1.0, "posts")) == {""}
    typed = corrupt("words-mistyped", 0.3, "posts", texts, ids)
    changed = np.mean([[a != b for a, b in zip(text.split(), WORDS.split(), strict=True)] for text in typed])
    assert changed == pytest.approx(0.3, abs=0.01)


def test_a_typing_error_is_a_swap_an_omission_or_a_neighbouring_key():
    ids = [str(i) for i in range(3000)]
    texts = np.array(["Walking"] * len(ids), dtype=object)
    typed = set(corrupt("words-mistyped", 1.0, "posts", texts, ids))
    word = "Walking"
    swaps = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(6)}
    omissions = {word[:i] + word[i + 1 :] for i in range(7)}
    replaced = {
        word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]
        for i in range(7)
        for key in BESIDE[word[i].lower()]
    }
    assert typed == swaps | omissions | replaced
    assert BESIDE["q"] == "w"
    assert sorted(BESIDE["g"]) == ["f", "h"]
    single = corrupt("words-mistyped", 1.0, "posts", np.array(["a & ll"], dtype=object), ["x"])[0].split()
    assert len(single) == 3
    assert all(a != b for a, b in zip(single, ["a", "&", "ll"], strict=True))


def test_clipping_cuts_a_tone_at_a_fraction_of_its_peak():
    clean = samples("speech")
    most = 0.2 * np.abs(clean).max(1, keepdims=True)
    np.testing.assert_allclose(corrupt("clipping", 0.8, "speech"), np.clip(clean, -most, most), rtol=1e-5)


def test_babble_has_the_stated_ratio_and_a_spectrum_like_speech():
    clean = np.tile(samples("speech") / 10, (1, 4))
    noise = corrupt("babble", 5.0, "speech", clean).astype(np.float64) - clean
    ratio = 10 * np.log10((clean.astype(np.float64) ** 2).mean(1) / (noise**2).mean(1))
    np.testing.assert_allclose(ratio, 5, atol=0.1)
    frequencies, density = signal.welch(noise, RATE, nperseg=512)
    mean = density.mean(0)

    def band(low, high):
        return 10 * np.log10(mean[(frequencies >= low) & (frequencies < high)].mean())

    assert band(150, 500) - band(2000, 3000) == pytest.approx(9 * np.log2(2500 / 500), abs=4)
    assert band(150, 500) - band(0, 40) > 10
    silent = np.zeros((1, RATE), np.float32)
    np.testing.assert_array_equal(corrupt("babble", 0.0, "speech", silent, ["a"]), silent)


def test_dropped_frames_are_stretches_of_40_ms():
    ones = np.ones((200, RATE + 7), np.float32)
    lost = corrupt("dropped-frames", 0.3, "speech", ones, [str(i) for i in range(200)]) == 0
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    packets = lost[:, :RATE].reshape(200, 25, 320)
    assert (packets == packets[:, :, :1]).all()


@pytest.mark.parametrize("name", ["inertial", "skeleton"])
def test_a_dead_axis_is_zero_and_the_others_are_untouched(name):
    axis, clean = MODALITIES[name].axis, samples(name)
    noisy = corrupt("dead-axis", 0.5, name)
    first, before = (np.moveaxis(x, axis + 1, 1).reshape(COUNT, clean.shape[axis + 1], -1) for x in (noisy, clean))
    dead = (first == 0).all(2)
    assert (dead.sum(1) == {"inertial": 3, "skeleton": 2}[name]).all()
    np.testing.assert_array_equal(first[~dead], before[~dead])


def test_drift_is_a_random_walk_in_units_of_each_axis():
    units = np.array([1, 2, 3, 4, 5, 6], np.float32)
    level = np.linspace(0, 1, 50, dtype=np.float32)[:, None] * units  # varies over time by a known amount
    scale = Scale(level, np.broadcast_to(units, (50, 6)))
    expected = units * np.sqrt(1 + np.linspace(0, 1, 50).var())
    ids = [str(i) for i in range(3000)]
    walk = corrupt("drift", 2.0, "inertial", np.zeros((3000, 50, 6), np.float32), ids, scale)
    np.testing.assert_allclose(walk[:, -1].std(0), 2 * expected, rtol=0.06)
    np.testing.assert_allclose(walk[:, 24].std(0), 2 * expected * np.sqrt(0.5), rtol=0.06)
    steps = np.diff(walk, axis=1)
    assert abs(np.corrcoef(steps[:, 3, 0], steps[:, 4, 0])[0, 1]) < 0.08
    joints = corrupt("drift", 1.0, "skeleton") - samples("skeleton")
    np.testing.assert_allclose(joints, np.broadcast_to(joints[..., :1], joints.shape), atol=1e-5)


def test_levels_of_a_stored_corruption_are_those_of_its_source():
    noise = Noise(modality="v", kind="gaussian", severity=KINDS["gaussian"].levels[3])
    assert noise.level(VECTOR) is None
    assert noise.level(VECTOR, stored=True) == 4
    assert noise.level(PHOTO) == 4
    assert LEVELS == (1, 2, 3, 4, 5)
    assert Unscaled().mean == 0
