import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc_train.data import Modality, Noise
from cpsc_train.data.modality import Spectrum
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError

IMAGE = Modality(kind="image", shape=(1, 16, 15), bounds=(0.0, 6.0))
TEXT = Modality(kind="text", shape=(4,), vocabulary=9)
VECTOR = Modality(kind="vector", shape=(50,))
UNIT = Scale(np.float32(0), np.float32(1))
GREY = np.full((200, 1, 16, 15), 3.0, dtype=np.float32)
IDS = [f"{i}" for i in range(200)]


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper", "dropout"])
@given(order=st.permutations(range(8)))
@settings(max_examples=20)
def test_a_sample_is_corrupted_alike_in_any_order_and_batch(kind, order):
    noise = Noise(modality="pix", kind=kind, severity=0.4)
    whole = noise.of_inputs(GREY[:8], IDS[:8], IMAGE, UNIT)
    moved = noise.of_inputs(GREY[:8], [IDS[i] for i in order], IMAGE, UNIT)
    np.testing.assert_array_equal(moved, whole[list(order)])
    np.testing.assert_array_equal(noise.of_inputs(GREY[:1], IDS[5:6], IMAGE, UNIT)[0], whole[5])


def test_which_samples_are_hit_tells_nothing_of_their_noise():
    """A draw that both shared would lose the first values of every sample that is hit."""
    ids = [f"{i}" for i in range(2000)]
    some, every = (Noise(modality="pix", kind="dropout", severity=0.5, share=share) for share in (0.5, 1.0))
    values = np.ones((len(ids), 1, 2, 2), np.float32)
    hit = some.hits(ids)
    assert every.hits(ids).tolist() == [True] * len(ids)
    noisy = some.of_inputs(values, ids, IMAGE, UNIT)
    np.testing.assert_array_equal(noisy[hit], every.of_inputs(values, ids, IMAGE, UNIT)[hit])
    np.testing.assert_array_equal(noisy[~hit], values[~hit])
    lost = (noisy[hit] == 0).mean(0)
    assert np.abs(lost - 0.5).max() < 0.06  # five standard errors of a thousand samples
    words = Noise(modality="pix", kind="words", severity=0.5, share=0.5)
    texts = words.of_samples(np.array(["a b"] * len(ids), dtype=object), ids, TEXT)[words.hits(ids)]
    assert np.mean([text[0] == "_" for text in texts]) == pytest.approx(0.5, abs=0.06)


def test_samples_modalities_and_seeds_get_different_noise():
    base = Noise(modality="pix", kind="gaussian", severity=0.1)
    noisy = base.of_inputs(GREY[:2], IDS[:2], IMAGE, UNIT)
    assert not np.array_equal(noisy[0], noisy[1])
    for other in (
        Noise(modality="dep", kind="gaussian", severity=0.1),
        Noise(modality="pix", kind="gaussian", severity=0.1, seed=1),
    ):
        assert not np.array_equal(noisy, other.of_inputs(GREY[:2], IDS[:2], IMAGE, UNIT))


def test_gaussian_has_the_stated_deviation_in_units_of_the_range():
    noisy = Noise(modality="pix", kind="gaussian", severity=0.1).of_inputs(GREY, IDS, IMAGE, UNIT)
    assert noisy.std() == pytest.approx(0.6, rel=0.02)  # 48,000 draws: three standard errors are 1 %
    assert noisy.mean() == pytest.approx(3.0, abs=0.01)
    signed = Modality(kind="image", shape=(1, 16, 15), bounds=(-2.0, 8.0))
    noisy = Noise(modality="pix", kind="gaussian", severity=0.1).of_inputs(GREY, IDS, signed, UNIT)
    assert noisy.std() == pytest.approx(1.0, rel=0.02)


def test_gaussian_on_a_vector_is_in_units_of_each_feature():
    scale = Scale(np.zeros(50, np.float32), np.linspace(1, 100, 50, dtype=np.float32))
    noisy = Noise(modality="fou", kind="gaussian", severity=2.0).of_inputs(
        np.zeros((2000, 50), np.float32), [str(i) for i in range(2000)], VECTOR, scale
    )
    np.testing.assert_allclose(noisy.std(0), 2 * scale.std, rtol=0.08)


def test_values_stay_in_their_range():
    for kind, severity in (("gaussian", 5.0), ("salt-and-pepper", 1.0)):
        noisy = Noise(modality="pix", kind=kind, severity=severity).of_inputs(GREY, IDS, IMAGE, UNIT)
        assert noisy.min() == 0.0
        assert noisy.max() == 6.0


def test_salt_and_pepper_sets_the_stated_share_half_to_each_end():
    noisy = Noise(modality="pix", kind="salt-and-pepper", severity=0.3).of_inputs(GREY, IDS, IMAGE, UNIT)
    assert (noisy == 0).mean() == pytest.approx(0.15, abs=0.006)  # three binomial standard errors
    assert (noisy == 6).mean() == pytest.approx(0.15, abs=0.006)
    assert ((noisy == 3) | (noisy == 0) | (noisy == 6)).all()


def test_dropout_loses_the_stated_share_to_black_or_to_the_mean():
    image = Noise(modality="pix", kind="dropout", severity=0.3).of_inputs(GREY, IDS, IMAGE, UNIT)
    assert (image == 0).mean() == pytest.approx(0.3, abs=0.007)  # three binomial standard errors
    assert ((image == 3) | (image == 0)).all()
    scale = Scale(np.arange(50, dtype=np.float32), np.ones(50, np.float32))
    dead = Noise(modality="fou", kind="dropout", severity=1.0)
    got = dead.of_inputs(np.full((3, 50), 99, np.float32), IDS[:3], VECTOR, scale)
    np.testing.assert_array_equal(got, np.tile(scale.mean, (3, 1)))
    assert got.dtype == np.float32


def test_a_sweep_reads_every_severity_and_names_are_short():
    assert Noise.sweep("pix:dropout:0.5,1") == tuple(
        Noise(modality="pix", kind="dropout", severity=s) for s in (0.5, 1)
    )
    assert Noise(modality="pix", kind="snr", severity=-3.0, share=0.25).name == "pix-snr--3-of-0.25"
    for text in ("pix:dropout", "pix:dropout:much", "pix:dropout:1:2"):
        with pytest.raises(
            UserError, match=f"must read MODALITY:KIND:SEVERITY or MODALITY:KIND:SEVERITY,SEVERITY, got '{text}'"
        ):
            Noise.sweep(text)
    with pytest.raises(UserError, match="unknown noise kind 'gausian'; did you mean 'gaussian'"):
        Noise.sweep("pix:gausian:1")


def test_noise_for_another_stage_leaves_values_alone():
    """Waveforms and texts are corrupted as they are read, and everything else when the model is given it."""
    for kind in ("snr", "impulses", "words"):
        noise = Noise(modality="pix", kind=kind, severity=0.5)
        np.testing.assert_array_equal(noise.of_inputs(GREY[:2], IDS[:2], IMAGE, UNIT), GREY[:2])
    for kind in ("gaussian", "salt-and-pepper", "dropout"):
        noise = Noise(modality="pix", kind=kind, severity=0.5)
        np.testing.assert_array_equal(noise.of_samples(GREY[:2], IDS[:2], IMAGE), GREY[:2])


def test_what_is_corrupted_is_a_copy():
    values, texts = GREY[:2].copy(), np.array(["a b"], dtype=object)
    Noise(modality="pix", kind="dropout", severity=1.0).of_inputs(values, IDS[:2], IMAGE, UNIT)
    Noise(modality="pix", kind="words", severity=1.0).of_samples(texts, ["a"], TEXT)
    np.testing.assert_array_equal(values, GREY[:2])
    assert texts.tolist() == ["a b"]


def test_a_sound_for_the_model_to_transform_takes_noise_of_samples_alone():
    spectrum = Modality(kind="sound", shape=(8000,), spectrum=Spectrum(512, 160))
    with pytest.raises(
        UserError,
        match=r"pix becomes a spectrogram in the model: noise must be of kind snr, impulses, .* or dropped-frames, or",
    ):
        Noise(modality="pix", kind="gaussian", severity=0.1).check(spectrum)
    for kind, modality in (("snr", spectrum), ("words", TEXT)):
        Noise(modality="pix", kind=kind, severity=0.1).check(modality)


def test_salt_and_pepper_needs_bounds():
    with pytest.raises(UserError, match="fou has no bounds"):
        Noise(modality="fou", kind="salt-and-pepper", severity=0.1).check(VECTOR)


@pytest.mark.parametrize(
    ("kind", "severity", "bounds"),
    [
        ("gaussian", 0.0, "(0, inf)"),
        ("gaussian", -1.0, "(0, inf)"),
        ("gaussian", float("nan"), "(0, inf)"),
        ("snr", float("inf"), "(-inf, inf)"),
        ("salt-and-pepper", 1.1, "(0, 1]"),
        ("words", 0.0, "(0, 1]"),
    ],
)
def test_a_bad_severity_is_refused(kind, severity, bounds):
    with pytest.raises(UserError) as caught:
        Noise(modality="pix", kind=kind, severity=severity)
    assert str(caught.value) == f"severity of {kind} noise must lie in {bounds}, got {severity}"
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match=rf"share of gaussian noise must lie in \(0, 1\], got {share}"):
            Noise(modality="pix", kind="gaussian", severity=1.0, share=share)
