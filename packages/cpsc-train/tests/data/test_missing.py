"""Samples that lack a modality: drawn, read, and standardised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cpsc_train.config import apply_settings
from cpsc_train.data import Dataset, InOrder, Loader, MissingConfig, Modality, Noise, Preprocessing, Shuffled, Splits
from cpsc_train.data.dataset import Kept
from cpsc_train.data.missing import check_presence, numbers, parse_missing, probabilities, remaining
from cpsc_train.data.modality import Spectrum
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

ROWS = 40
SPLITS = Splits(np.arange(20), np.arange(20, 26), np.arange(26, 32), np.arange(32, ROWS))
MASK = np.arange(ROWS) % 3 != 0


class Views(Dataset):
    """A vector and a text; refuses to read the vector of a sample that lacks it."""

    classes = ("no", "yes")

    def __init__(self, presence=None):
        self.ids = [f"s{i}" for i in range(ROWS)]
        self.labels = np.arange(ROWS) % 2
        self.modalities = {
            "vector": Modality(kind="vector", shape=(3,)),
            "text": Modality(kind="text", shape=(4,), vocabulary=9),
        }
        self.presence = {"vector": MASK} if presence is None else presence
        self.calls = []

    def read(self, modality, rows, /):
        assert self.presence.get(modality, np.ones(ROWS, bool))[rows].all()
        self.calls.append((modality, rows.tolist()))
        if modality == "text":
            return np.stack([np.full(4, 1 + row % 8, dtype=np.int64) for row in rows])
        return np.stack([np.arange(3, dtype=np.float32) + row for row in rows])


def test_absent_samples_are_never_read_and_their_input_is_zero():
    views = Views()
    preprocessing = Preprocessing(views, SPLITS.train)
    noise = [Noise(modality="vector", kind="gaussian", severity=1.0)]
    batches = list(Loader(views, SPLITS.train, preprocessing, InOrder(20, 8), noise=noise))
    assert [list(batch.present) for batch in batches] == [["vector"]] * 3
    mask, values = (
        torch.cat([x(batch) for batch in batches])
        for x in (lambda b: b.present["vector"], lambda b: b.inputs["vector"])
    )
    np.testing.assert_array_equal(mask.numpy(), MASK[:20])
    assert (values[~mask] == 0).all()
    assert (values[mask] != 0).any(1).all()


def test_noise_and_augmentation_of_a_sample_do_not_depend_on_absent_ones():
    noise = [Noise(modality="vector", kind="gaussian", severity=1.0)]
    order = Shuffled(20, batch_size=7, accumulate=1, seed=0)
    order.go_to(epoch=0, step=0)
    complete, gaps = Views({}), Views()
    preprocessing = Preprocessing(gaps, SPLITS.train)
    pairs = zip(*(Loader(d, SPLITS.train, preprocessing, order, augment=noise) for d in (complete, gaps)), strict=True)
    for one, other in pairs:
        mask = other.present["vector"]
        assert torch.equal(one.inputs["vector"][mask], other.inputs["vector"][mask])


def test_statistics_are_those_of_present_training_rows():
    having = np.flatnonzero(MASK[:20])
    scale = Preprocessing(Views(), SPLITS.train).scales["vector"]
    np.testing.assert_allclose(scale.mean, np.arange(3) + having.mean(), rtol=1e-6)
    np.testing.assert_allclose(scale.std, having.std(), rtol=1e-6)


def test_a_batch_in_which_nobody_has_it():
    text = {"text": np.arange(ROWS) >= 8}
    views = Views(text)
    first = next(iter(Loader(views, SPLITS.train, Preprocessing(views, SPLITS.train), InOrder(20, 8))))
    assert first.inputs["text"].dtype == torch.int64
    assert first.inputs["text"].shape == (8, 4)
    assert not first.inputs["text"].any()


class Sounds(Views):
    """Waveforms whose spectrogram the model computes."""

    def __init__(self):
        super().__init__()
        self.modalities = {"vector": Modality(kind="sound", shape=(1, 9, 5), spectrum=Spectrum(n_fft=16, hop=8))}

    def read(self, modality, rows, /):
        assert MASK[rows].all()
        return np.stack([np.sin(np.arange(35, dtype=np.float32) * (1 + row)) for row in rows])


def test_a_waveform_has_the_length_of_the_others():
    sounds = Sounds()
    batch = next(iter(Loader(sounds, SPLITS.train[:1], Preprocessing(sounds, SPLITS.train), InOrder(1, 1))))
    assert batch.inputs["vector"].shape == (1, 35)


def test_a_skip_list_keeps_the_masks_of_the_other_rows():
    rows = np.array([0, 1, 5, 6])
    np.testing.assert_array_equal(Kept(Views(), rows, []).presence["vector"], MASK[rows])


def test_workers_carry_the_masks():
    views = Views()
    loader = Loader(views, SPLITS.train, Preprocessing(views, SPLITS.train), InOrder(20, 8), workers=1)
    masks = torch.cat([batch.present["vector"] for batch in loader])
    np.testing.assert_array_equal(masks.numpy(), MASK[:20])


SHARES = [
    {"a": 0.3, "b": 0.0},
    {"a": 0.3, "b": 0.3},
    {"a": 0.5, "b": 0.5},
    {"a": 0.9, "b": 0.1},
    {"a": 0.5, "b": 0.3, "c": 0.6},
    {"a": 0.98, "b": 0.5, "c": 0.5},
    {"a": 0.99, "b": 0.99, "c": 0.02},
]


@pytest.mark.parametrize("share", SHARES)
def test_each_modality_is_missing_in_its_share_and_no_sample_loses_all(share):
    count = 20_000
    held = {m: np.ones(count, dtype=bool) for m in share}
    kept = remaining([f"s{i}" for i in range(count)], held, share, seed=1)
    for m, f in share.items():
        assert float(1 - kept[m].mean()) == pytest.approx(f, abs=4 * np.sqrt(0.25 / count))
    assert np.any(list(kept.values()), axis=0).all()
    assert all(0 <= p <= 1 + 1e-12 for p in probabilities(share).values())


def test_a_draw_depends_on_seed_sample_and_modality_alone():
    ids, share = [f"s{i}" for i in range(200)], {"a": 0.4, "b": 0.4}
    held = {m: np.ones(200, dtype=bool) for m in share}
    kept = remaining(ids, held, share, seed=0)
    back = remaining(ids[::-1], held, share, seed=0)
    for m in share:
        np.testing.assert_array_equal(kept[m], back[m][::-1])
    assert (kept["a"] != kept["b"]).any()
    assert (remaining(ids, held, share, seed=1)["a"] != kept["a"]).any()


def test_the_last_modality_of_an_incomplete_sample_stays():
    held = {"a": np.arange(300) % 2 == 0, "b": np.ones(300, dtype=bool)}
    kept = remaining([str(i) for i in range(300)], held, {"a": 0.5, "b": 0.5}, seed=0)
    assert not (kept["a"] & ~held["a"]).any()
    assert (kept["a"] | kept["b"]).all()
    assert kept["b"][1::2].all()  # they had nothing else


def test_parts_and_the_original():
    views = Views({})
    taken = MissingConfig(share={"vector": 0.5}, parts=("train",)).taken_from(views, SPLITS)
    assert views.presence == {}
    assert not taken.presence["vector"][:20].all()
    assert taken.presence["vector"][20:].all()
    assert numbers(taken, SPLITS)["test"] == {"vector": 8}
    assert MissingConfig().taken_from(views, SPLITS) is views


def test_what_cannot_be_used_is_refused():
    with pytest.raises(UserError, match=r"sample s0 has no modality of vector, text"):
        check_presence(Views({"vector": MASK, "text": MASK}), SPLITS)
    late = np.arange(ROWS) < 30
    with pytest.raises(UserError, match=r"no test row has vector: leave the modality out"):
        check_presence(Views({"vector": late}), SPLITS)
    check_presence(Views(), SPLITS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["missing.share.pix=1"], r"missing\.share\.pix must lie in \[0, 1\), got 1"),
        (["missing.share.sound=0.1"], "modality must be one of pix, fou, got 'sound'"),
        (
            ["missing.share={pix=0.6,fou=0.6}"],
            r"must add up to at most 1 for 2 modalities, since every row keeps one, got 1\.2",
        ),
        (['missing.parts=["train","train"]'], r"missing\.parts must be different"),
        (["missing=true"], "missing must be a table, got "),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        apply_settings(recipe("handwritten"), settings)


@pytest.mark.parametrize("text", ["pix", "pix=many", "=.3", "pix=.1,", "pix=.1;fou=.2"])
def test_text_that_does_not_fit(text):
    with pytest.raises(UserError, match=r"must read MODALITY=FRACTION, such as image=\.3, got "):
        parse_missing([text])


def test_a_modality_has_one_fraction():
    with pytest.raises(UserError, match="missing modalities must be different, got 'pix' twice"):
        parse_missing(["pix=.1", "pix=.2"])
