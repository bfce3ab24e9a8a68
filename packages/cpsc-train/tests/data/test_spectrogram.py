"""The spectrogram, by the loader and by the model, against libraries that others trust."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import spectrogram
from scipy.signal.windows import hann

from cpsc_train import train
from cpsc_train.config import override
from cpsc_train.data import DataConfig, Preprocessing
from cpsc_train.data.media.sound import log_spectrogram
from cpsc_train.data.modality import Spectrum
from cpsc_train.models.inputs import LogSpectrogram
from cpsc_train.recipes import recipe

SAMPLES = np.random.default_rng(0).uniform(-1, 1, (2, 22050)).astype(np.float32)


def by_scipy(samples, n_fft, hop):
    """The magnitude, frames centred, ends mirrored."""
    padded = np.pad(samples.astype(np.float64), [(0, 0), (n_fft // 2, n_fft // 2)], mode="reflect")
    window = hann(n_fft, sym=False)
    _, _, found = spectrogram(
        padded, window=window, noverlap=n_fft - hop, detrend=False, mode="magnitude", scaling="spectrum"
    )
    return found * window.sum()


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 353), (256, 128)])
def test_loader_model_and_scipy_agree(n_fft, hop):
    ours = log_spectrogram(SAMPLES, n_fft=n_fft, hop=hop)
    model = LogSpectrogram(Spectrum(n_fft, hop))(torch.from_numpy(SAMPLES))
    np.testing.assert_allclose(np.exp(ours), by_scipy(SAMPLES, n_fft, hop) + 1e-7, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model[:, 0].exp().numpy(), np.exp(ours), rtol=1e-5, atol=2e-5)
    assert model.shape == (2, 1, n_fft // 2 + 1, 1 + 22050 // hop)


def test_librosa_agrees():
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    expected = np.abs(librosa.stft(SAMPLES[0], n_fft=512, hop_length=353, pad_mode="reflect"))
    np.testing.assert_allclose(
        np.exp(log_spectrogram(SAMPLES[0], n_fft=512, hop=353)), expected + 1e-7, rtol=1e-5, atol=1e-5
    )


def test_the_model_computes_in_single_precision_and_standardises():
    module = LogSpectrogram(Spectrum(512, 353))
    plain = module(torch.from_numpy(SAMPLES))
    module.standardise(-1.5, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scaled = module(torch.from_numpy(SAMPLES))
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled, (plain + 1.5) / 2)
    assert set(module.state_dict()) == {"mean", "std"}


def test_both_places_give_the_model_the_same_input(crema_native):
    loader, model = (
        DataConfig.named("crema-d")(root=str(crema_native), split="speaker", size=16, spectrogram=where).open()
        for where in ("loader", "model")
    )
    rows = np.arange(12)
    fitted = Preprocessing(loader, rows), Preprocessing(model, rows)
    assert fitted[1].scales["audio"].mean == pytest.approx(fitted[0].scales["audio"].mean)
    given = fitted[0]("audio", loader.inputs("audio", loader.read("audio", rows)))
    waveforms = fitted[1]("audio", model.inputs("audio", model.read("audio", rows)))
    assert waveforms.shape == (12, 66150)
    module = LogSpectrogram(model.modalities["audio"].spectrum)
    module.standardise(float(fitted[1].scales["audio"].mean), float(fitted[1].scales["audio"].std))
    # Where the spectrum is nearly nothing its logarithm magnifies how the two libraries round.
    loud = given > fitted[0]("audio", np.log(np.full((1, 1, 1, 1), 1e-3, np.float32)))
    np.testing.assert_allclose(module(torch.from_numpy(waveforms)).numpy()[loud], given[loud], atol=1e-2)


def test_a_run_with_the_spectrogram_in_the_model(crema_native, tmp_path):
    base = recipe("crema-d")
    changes = {
        "data.root": str(crema_native),
        "data.split": "speaker",
        "data.size": 32,
        "data.spectrogram": "model",
        "epochs": 2,
        "method.warmup": 1,
        "compute.workers": 0,
        "splits.calibration": 0.3,
        "splits.validation": 0.3,
        "conformal.alpha": 0.3,
        "batch_size": 16,
        "data.seconds": 0.5,
        "protocols": ["strict:SP@5"],
        "noise": [{"modality": "audio", "kind": "snr", "severity": 0.0}],
    }
    config = override(base, changes)
    results = train(config, tmp_path / "run")
    assert set(results["test"]) == {"clean", "audio-snr-0", "strict:SP@5", "without-audio", "without-video"}
    assert results["corrupted"]["strict:SP@5"] == {"audio": 1.0, "video": 1.0}
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    assert float(state["encoders.audio.0.std"]) != 1
