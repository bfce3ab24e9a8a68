"""The named noise protocols of the field, and noise on waveforms and words."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.data import Loader, Modality, Noise, Preprocessing, Shuffled, conditions
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.data.order import InOrder
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

PHOTO = Modality(kind="image", shape=(3, 8, 8), bounds=(0.0, 255.0))
TEXT = Modality(kind="text", shape=(16,), vocabulary=100)
SOUND = Modality(kind="sound", shape=(1, 257, 10))
VECTOR = Modality(kind="vector", shape=(5,))
POSTS = {"image": PHOTO, "text": TEXT}
SCENES = {"rgb": PHOTO, "depth": PHOTO}
UNIT = Scale(np.float32(0), np.float32(1))
IDS = [f"s{i}" for i in range(4000)]


def parts(text, modalities):
    (found,) = conditions(text, modalities)
    return {noise.modality: (noise.kind, round(noise.severity * 255, 6), noise.share) for noise in found.parts}


@pytest.mark.parametrize(
    ("text", "modalities", "expected"),
    [
        ("qmf:GS@5", POSTS, {"image": ("gaussian", 50, 0.5), "text": ("words", 127.5, 0.5)}),
        ("qmf:SP@10", POSTS, {"image": ("salt-and-pepper", 25.5, 0.05), "text": ("words", 255, 0.5)}),
        ("qmf:GS@10", SCENES, {"rgb": ("gaussian", 10, 0.5), "depth": ("gaussian", 10, 0.5)}),
        ("cpsc:GS@5", POSTS, {"image": ("gaussian", 50, 0.5), "text": ("words", 127.5, 0.5)}),
        ("cpsc:SP@5", SCENES, {"rgb": ("salt-and-pepper", 25.5, 0.25), "depth": ("salt-and-pepper", 25.5, 0.25)}),
        ("cpsc:SP@10", POSTS, {"image": ("salt-and-pepper", 25.5, 0.5), "text": ("words", 255, 0.5)}),
        ("strict:GS@5", SCENES, {"rgb": ("gaussian", 50, 1), "depth": ("gaussian", 50, 1)}),
        ("strict:SP@10", POSTS, {"image": ("salt-and-pepper", 25.5, 1), "text": ("words", 255, 1)}),
        ("strict:GS@5", {"a": SOUND, "v": VECTOR}, {"a": ("snr", 2550, 1), "v": ("gaussian", 127.5, 1)}),
        ("strict:SP@10", {"a": SOUND, "v": PHOTO}, {"a": ("impulses", 25.5, 1), "v": ("salt-and-pepper", 25.5, 1)}),
    ],
)
def test_the_table_of_the_protocols(text, modalities, expected):
    assert parts(text, modalities) == expected


def test_levels_are_named_and_nought_is_clean():
    found = conditions("qmf:GS@0,5,10", POSTS)
    assert [(one.name, len(one.parts)) for one in found] == [("qmf:GS@0", 0), ("qmf:GS@5", 2), ("qmf:GS@10", 2)]


@pytest.mark.parametrize(
    ("text", "modalities", "said"),
    [
        ("qmf:SP@5", SCENES, "qmf:SP has no meaning for colour and depth"),
        ("cpsc:SP@7", POSTS, "cpsc:SP is defined for 5 and 10, got 7"),
        ("mine:GS@5", POSTS, "with one of qmf, cpsc, strict, or MODALITY:KIND@1-5.* got 'mine:GS@5'"),
        ("qmf:GS", POSTS, "must read PROTOCOL:GS@5,10"),
        ("strict:SP@5", {"v": VECTOR}, "v has no bounds"),
    ],
)
def test_what_a_protocol_does_not_say(text, modalities, said):
    with pytest.raises(UserError, match=said):
        conditions(text, modalities)


def test_half_the_samples_the_same_half_at_every_level():
    weak, strong = (conditions(f"qmf:GS@{level}", POSTS)[0].parts for level in (1, 10))
    hit = weak[0].hits(IDS)
    assert hit.mean() == pytest.approx(0.5, abs=0.024)  # three binomial standard errors
    np.testing.assert_array_equal(hit, strong[0].hits(IDS))
    assert 0.4 < (hit == weak[1].hits(IDS)).mean() < 0.6  # of each modality by itself
    values = np.full((40, 3, 8, 8), 128, np.float32)
    noisy = weak[0].of_inputs(values, IDS[:40], PHOTO, UNIT)
    np.testing.assert_array_equal((noisy != values).any((1, 2, 3)), hit[:40])


def test_a_pixel_is_clipped_and_does_not_wrap_around():
    dark = np.full((200, 3, 8, 8), 3, np.float32)
    noisy = Noise(modality="image", kind="gaussian", severity=5 / 255).of_inputs(dark, IDS[:200], PHOTO, UNIT)
    assert noisy.min() == 0
    assert noisy.max() < 40  # as bytes, a fifth of them would be above 200
    channels = noisy.reshape(-1, 3, 64)
    assert not np.array_equal(channels[:, 0], channels[:, 1])


def test_words_are_blanked_one_by_one():
    noise = Noise(modality="text", kind="words", severity=0.3)
    text = "a  good\tday, it was"
    noisy = noise.of_samples(np.array([text] * 2000, dtype=object), IDS[:2000], TEXT)
    gone = np.array([[word == "_" for word in one.split()] for one in noisy])
    assert gone.shape == (2000, 5)
    assert gone.mean() == pytest.approx(0.3, abs=0.014)
    assert noise.of_samples(np.array([text], dtype=object), [IDS[7]], TEXT)[0] == noisy[7]
    assert Noise(modality="text", kind="words", severity=1.0).of_samples(
        np.array([text], dtype=object), ["a"], TEXT
    ) == ["_  _\t_ _ _"]


def test_a_waveform_has_the_stated_ratio_and_stays_in_range():
    tone = 0.1 * np.sin(np.arange(8000) / 7).astype(np.float32)[None].repeat(20, 0)
    noisy = Noise(modality="a", kind="snr", severity=10.0).of_samples(tone, IDS[:20], SOUND)
    power = [np.mean(x.astype(np.float64) ** 2) for x in (tone, noisy - tone)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(10, abs=0.1)
    struck = Noise(modality="a", kind="impulses", severity=0.2).of_samples(tone, IDS[:20], SOUND)
    assert (np.abs(struck) == 1).mean() == pytest.approx(0.2, abs=0.003)
    loud = Noise(modality="a", kind="snr", severity=-20.0).of_samples(tone, IDS[:20], SOUND)
    assert np.abs(loud).max() == 1


@pytest.mark.parametrize(
    ("kind", "modality", "said"),
    [
        ("snr", PHOTO, "snr noise is for sound, and m is image"),
        ("words", SOUND, "words noise is for text, and m is sound"),
        ("gaussian", TEXT, "noise must be of kind words, words-dropped or words-mistyped"),
    ],
)
def test_noise_of_another_kind_of_modality(kind, modality, said):
    with pytest.raises(UserError, match=said):
        Noise(modality="m", kind=kind, severity=0.5).check(modality)
    with pytest.raises(UserError, match=r"share of .* must lie in \(0, 1\]"):
        Noise(modality="m", kind=kind, severity=0.5, share=0)
    with pytest.raises(UserError, match="severity"):
        Noise(modality="m", kind=kind, severity=float("inf"))


@pytest.mark.parametrize("workers", [0, 2])
def test_noise_is_the_same_on_any_number_of_workers_and_ranks(workers):
    dataset = HandwrittenConfig().open()
    rows = np.arange(0, 2000, 50)
    preprocessing = Preprocessing(dataset, rows)
    (condition,) = conditions("qmf:GS@10", dataset.modalities)

    def read(of, size, workers):
        loader = Loader(dataset, of, preprocessing, InOrder(len(of), size), noise=condition.parts, workers=workers)
        return {i: x for batch in loader for i, x in zip(batch.ids, batch.inputs["pix"].numpy(), strict=True)}

    whole = read(rows, 40, 0)
    shared = read(rows[::2], 3, workers) | read(rows[1::2], 7, workers)
    assert whole.keys() == shared.keys()
    for sample, values in whole.items():
        np.testing.assert_array_equal(values, shared[sample])
    clean = Loader(dataset, rows, preprocessing, Shuffled(len(rows), batch_size=40, accumulate=1, seed=0))
    (batch,) = clean
    changed = [not np.array_equal(x, whole[i]) for i, x in zip(batch.ids, batch.inputs["pix"].numpy(), strict=True)]
    assert 0.2 < np.mean(changed) < 0.8
