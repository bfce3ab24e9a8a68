"""Speed of each storage form of a data set, and the time that training waits for it.

    python benchmarks/data/run.py                       recordings made for the purpose, in four forms
    python benchmarks/data/run.py --root DIR            a copy of CREMA-D
    python benchmarks/data/run.py --clips 200 --workers 0,2,8 --rounds 3

Each form contains the same recordings: FLV and WAV as distributed, extracted frames and sound, a cache of decoded
samples, and tar files. Rounds alternate between forms and numbers of workers; figures are medians. Waiting is the
fraction of a training epoch (two ResNet18, frames of 64×64) spent waiting for batches. Compare ratios, not seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians

from cpsc_train import train
from cpsc_train.config import override
from cpsc_train.data import Loader, Preprocessing, Shuffled, preparation
from cpsc_train.data.adapters.crema_d import CLASSES, CremaDConfig
from cpsc_train.data.families.clips import HOP, N_FFT
from cpsc_train.data.media.sound import log_spectrogram
from cpsc_train.data.modality import Spectrum
from cpsc_train.models.inputs import LogSpectrogram
from cpsc_train.recipes import recipe

FORMS = ("distributed", "extracted", "cache", "tar files")


def make(root: Path, clips: int) -> Path:
    """Write recordings with the dimensions of CREMA-D: 2.5 s, 480×360 at 30 frames per second, 16 kHz."""
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (36, 48, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    (root / "VideoFlash").mkdir(parents=True)
    (root / "AudioWAV").mkdir()
    for number in range(clips):
        name = f"{1001 + number // 12}_DFA_{CLASSES[number % 6]}_{number % 12:02d}"
        soundfile.write(root / "AudioWAV" / f"{name}.wav", generator.uniform(-0.5, 0.5, 40_000), 16_000)
        with av.open(str(root / "VideoFlash" / f"{name}.flv"), "w") as file:
            stream = file.add_stream("flv", rate=30)
            stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
            for k in range(75):
                frame = av.VideoFrame.from_ndarray(np.roll(scene, (k, 2 * k + number), (0, 1)), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return root


def forms(root: Path, work: Path) -> dict[str, CremaDConfig]:
    """Prepare the four forms, and print how long that takes."""
    native = CremaDConfig(root=str(root), split="stratified", frames=3)
    seconds = []
    for name, job in (
        ("extracted", lambda: preparation.extract(native, work / "out", workers=2)),
        ("cache", lambda: preparation.fill_cache(native, work / "cache", workers=2)),
        ("tar files", lambda: preparation.pack(native, str(work / "tar"), workers=2)),
    ):
        began = time.perf_counter()
        job()
        seconds.append(f"{name} {time.perf_counter() - began:.1f} s")
    size = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6 for path in work.iterdir()}
    distributed = sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e6
    print(f"prepared by two processes in: {', '.join(seconds)}")
    print(f"MB: distributed {distributed:.1f}, {', '.join(f'{name} {mb:.1f}' for name, mb in size.items())}\n")
    options: dict[str, Any] = {"split": "stratified", "frames": 3}
    return {
        "distributed": native,
        "extracted": CremaDConfig(root=str(work / "out"), **options),
        "cache": CremaDConfig(root=str(root), cache=str(work / "cache"), **options),
        "tar files": CremaDConfig(root=str(work / "tar"), **options),
    }


def throughput(config: CremaDConfig, workers: int) -> float:
    """Return augmented samples per second, over an epoch after one that starts the workers."""
    dataset = config.open()
    rows = np.arange(len(dataset))
    order = Shuffled(len(rows), batch_size=16, accumulate=1, seed=0)
    loader = Loader(dataset, rows, Preprocessing(dataset, rows[:16]), order, workers=workers)
    for _ in loader:
        pass
    order.go_to(epoch=1, step=0)
    began = time.perf_counter()
    count = sum(len(batch) for batch in loader)
    return count / (time.perf_counter() - began)


def waiting(config: CremaDConfig, workers: int, folder: Path) -> float:
    """Return the fraction of the last epoch of a short run that is spent waiting for batches."""
    changes = {
        "data.root": config.root,
        "data.split": "stratified",
        "data.frames": 3,
        "data.size": 64,
        "epochs": 3,
        "method.name": "joint",
        "compute.workers": workers,
        "batch_size": 16,
        "noise": [],
        "leave_out": False,
        "data.cache": config.cache,
        "conformal.alpha": 0.4,
        "splits.calibration": 0.2,
        "splits.validation": 0.2,
    }
    train(override(recipe("crema-d"), changes), folder)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    times = json.loads(lines[-1])["time"]
    return float(times["data"] / sum(times[part] for part in ("data", "step", "refresh")))


def spectrograms(rounds: int) -> None:
    """Compare where the spectrogram is computed: 16 waveforms of 3 s."""
    samples = np.random.default_rng(0).uniform(-1, 1, (16, 66_150)).astype(np.float32)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = LogSpectrogram(Spectrum(N_FFT, HOP)).to(device)
    waves = torch.from_numpy(samples)
    jobs = {
        "loader (numpy)": lambda: log_spectrogram(samples, n_fft=N_FFT, hop=HOP),
        f"model (torch, {device.type})": lambda: module(waves.to(device)).sum().item(),
    }
    times = medians(jobs, rounds * 5)
    print("spectrograms of 16 × 3 s, ms: " + ", ".join(f"{name} {1e3 * s:.1f}" for name, s in times.items()))


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a copy of CREMA-D as it is distributed; made if absent")
    parser.add_argument("--clips", type=int, default=144, help="recordings to make")
    parser.add_argument("--workers", default="0,1,2", help="numbers of processes that read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--training", action="store_true", help="also measure waiting, in runs of three epochs")
    options = parser.parse_args()
    counts = [int(n) for n in options.workers.split(",")]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, PyAV {av.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        root = options.root or make(work / "made", options.clips)
        configs = forms(root, work / "forms")
        measured: dict[tuple[str, int], list[float]] = {(name, n): [] for name in FORMS for n in counts}
        for _ in range(options.rounds):
            for name, n in list(measured):
                measured[name, n].append(throughput(configs[name], n))
        rates = {key: statistics.median(of) for key, of in measured.items()}
        print("samples/s (× distributed)" + "".join(f" | {n} workers" for n in counts))
        for name in FORMS:
            cells = [f"{rates[name, n]:.0f} ({rates[name, n] / rates['distributed', n]:.2f})" for n in counts]
            print(" | ".join([name, *cells]))
        print()
        spectrograms(options.rounds)
        if options.training:
            print("\nwaiting, % of an epoch" + "".join(f" | {n} workers" for n in counts))
            for name in FORMS:
                fractions = [waiting(configs[name], n, work / f"run-{name.replace(' ', '-')}-{n}") for n in counts]
                print(name + "".join(f" | {100 * one:.1f}" for one in fractions))


if __name__ == "__main__":
    main()
