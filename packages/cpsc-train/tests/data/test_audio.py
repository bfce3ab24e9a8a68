from __future__ import annotations

import wave

import numpy as np
import pytest
import torch

from cpsc_train.data.media.sound import log_spectrogram, read_sound, resample, tile
from cpsc_train.errors import UserError

pytest.importorskip("soundfile", reason="sound is read by soundfile")


def write(path, values, *, width=2, channels=1, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values)
    return path


@pytest.mark.parametrize(("n_fft", "hop", "length"), [(512, 353, 66150), (128, 125, 8000)])
def test_the_spectrogram_is_torchs(n_fft, hop, length):
    samples = np.random.default_rng(0).uniform(-1, 1, (2, length)).astype(np.float32)
    window = torch.hann_window(n_fft)
    expected = torch.stft(torch.from_numpy(samples), n_fft, hop, window=window, center=True, return_complex=True)
    found = log_spectrogram(samples, n_fft=n_fft, hop=hop)
    assert found.shape == (2, n_fft // 2 + 1, 1 + length // hop)
    np.testing.assert_allclose(np.exp(found), expected.abs().numpy() + 1e-7, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "kind", "zero"), [(1, np.uint8, 128), (2, "<i2", 0), (4, "<i4", 0)])
def test_every_width_means_the_same_sound(tmp_path, width, kind, zero):
    wanted = np.array([0, 0.5, -0.5, 0.25])
    values = (wanted * 2 ** (8 * width - 1) + zero).astype(kind)
    samples, rate = read_sound(write(tmp_path / "a.wav", values.tobytes(), width=width))
    assert rate == 8000
    np.testing.assert_allclose(samples, wanted, atol=1e-6)


def test_three_bytes_and_two_channels(tmp_path):
    left, right = np.array([0.5, -0.5]), np.array([0.25, 0.25])
    both = (np.stack([left, right], 1).ravel() * 2**23).astype("<i4")
    raw = b"".join(int(value).to_bytes(3, "little", signed=True) for value in both)
    samples, _ = read_sound(write(tmp_path / "a.wav", raw, width=3, channels=2))
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-6)


def test_a_tone_keeps_its_pitch_at_another_rate():
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    other = resample(tone, 8000, 22050)
    assert len(other) == 22050
    expected = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    np.testing.assert_allclose(other[500:-500], expected[500:-500], atol=2e-3)
    assert resample(tone, 8000, 8000) is tone


def test_a_short_recording_is_repeated():
    assert tile(np.array([1.0, 2.0, 3.0], np.float32), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert tile(np.array([1.0, 2.0, 3.0], np.float32), 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"RIFF....WAVE", "is not a readable sound file"),
        (b"\x1aE\xdf\xa3 something else", "is not a readable sound file"),
    ],
)
def test_what_is_no_sound_is_named(tmp_path, held, said):
    (tmp_path / "a.wav").write_bytes(held)
    with pytest.raises(UserError, match=rf"a\.wav: {said}"):
        read_sound(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [1, 999, 4_000_000])
def test_a_rate_that_no_recording_has(tmp_path, rate):
    with pytest.raises(UserError, match=r"a\.wav: must have 1,000 to 768,000 samples a second"):
        read_sound(write(tmp_path / "a.wav", bytes(100), rate=rate))


def test_no_samples(tmp_path):
    with pytest.raises(UserError, match=r"a\.wav: holds no samples"):
        read_sound(write(tmp_path / "a.wav", b""))
    with pytest.raises(UserError, match=r"b\.wav: no such file"):
        read_sound(tmp_path / "b.wav")
