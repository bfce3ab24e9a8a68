"""Spoken digits, speaker after speaker: what each online predictor covers when the world really changes.

    python benchmarks/core/real_stream.py --data DIRECTORY

DIRECTORY holds the Free Spoken Digit Dataset, files named digit_speaker_index.wav. A classifier learns from two
speakers; their held-out recordings calibrate; then the same two speak, and after them four it never heard. Needs
scikit-learn. The order of the recordings is drawn anew for each seed; classifier and calibration are too.
"""

import argparse
import warnings
import wave
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conformal_core import ACI, LAC, SAOCP, DtACI, Fixed, History, OnlineClassifier, Window

ALPHA = 0.1
KNOWN = ("jackson", "theo")
PREDICTORS: dict[str, Callable[[], OnlineClassifier]] = {
    "split: fixed calibration set": lambda: OnlineClassifier(LAC(), alpha=ALPHA, memory=Fixed()),
    "all history": lambda: OnlineClassifier(LAC(), alpha=ALPHA, memory=History()),
    "window of 100": lambda: OnlineClassifier(LAC(), alpha=ALPHA, memory=Window(100)),
    "window of 100, ACI, gamma .02": lambda: OnlineClassifier(
        LAC(), memory=Window(100), level=ACI(alpha=ALPHA, gamma=0.02)
    ),
    "fixed, ACI, gamma .02": lambda: OnlineClassifier(LAC(), memory=Fixed(), level=ACI(alpha=ALPHA, gamma=0.02)),
    "window of 100, DtACI": lambda: OnlineClassifier(LAC(), memory=Window(100), level=DtACI(alpha=ALPHA)),
    "SAOCP": lambda: OnlineClassifier(LAC(), level=SAOCP(alpha=ALPHA)),
}


def features(path: Path, frames: int = 12, bands: int = 20) -> np.ndarray:
    """Log energies in bands of a recording, in as many frames whatever its length."""
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 2**15
    edges = np.linspace(0, len(sound), frames + 1).astype(int)
    rows = []
    for start, end in pairwise(edges):
        power = np.abs(np.fft.rfft(sound[start:end] * np.hanning(end - start), n=512)) ** 2
        rows.append(np.log([part.mean() + 1e-8 for part in np.array_split(power[1:], bands)]))
    table = np.asarray(rows)
    return (table - table.mean()).ravel()  # loudness says nothing of the digit


def load(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and digits of every speaker."""
    found: dict[str, tuple[list, list]] = {}
    for path in sorted(folder.rglob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        rows, digits = found.setdefault(speaker, ([], []))
        rows.append(features(path))
        digits.append(int(digit))
    if not found:
        raise SystemExit(f"--data must hold recordings digit_speaker_index.wav, got none in {folder}")
    return {speaker: (np.asarray(rows), np.asarray(digits)) for speaker, (rows, digits) in found.items()}


def run(data: dict[str, tuple[np.ndarray, np.ndarray]], seed: int) -> dict[str, np.ndarray]:
    """Of each predictor: coverage of known, new and worst new speaker, and set sizes of known and new speakers."""
    rng = np.random.default_rng(seed)
    rows, digits = (np.concatenate(parts) for parts in zip(*(data[speaker] for speaker in KNOWN), strict=True))
    train, calibration, familiar = np.split(rng.permutation(len(rows)), [500, 750])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.01)).fit(rows[train], digits[train])
    strangers = [data[speaker] for speaker in sorted(set(data) - set(KNOWN))]
    orders = [rng.permutation(len(own)) for _, own in strangers]
    stream = np.concatenate([rows[familiar], *(x[i] for (x, _), i in zip(strangers, orders, strict=True))])
    truth = np.concatenate([digits[familiar], *(y[i] for (_, y), i in zip(strangers, orders, strict=True))])
    probs, known = model.predict_proba(stream), len(familiar)
    right = probs.argmax(-1) == truth
    results = {"accuracy": np.asarray([right[:known].mean(), right[known:].mean()])}
    ends = np.cumsum([len(order) for order in orders])[:-1]
    for name, make in PREDICTORS.items():
        predictor = make()
        predictor.calibrate(model.predict_proba(rows[calibration]), digits[calibration])
        sets = np.empty(probs.shape, dtype=bool)
        for t, (row, digit) in enumerate(zip(probs, truth.tolist(), strict=True)):
            sets[t] = predictor.predict(row)
            predictor.update(row, digit)
        hit, size = sets[np.arange(len(truth)), truth], sets.sum(-1)
        worst = min(speaker.mean() for speaker in np.split(hit[known:], ends))
        parts = [hit[:known].mean(), hit[known:].mean(), worst, size[:known].mean(), size[known:].mean()]
        results[name] = np.asarray(parts)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    # An adaptive level may ask a small memory for more than it knows: a full set is then what is meant.
    warnings.filterwarnings("ignore", "[0-9]+ calibration scores are too few")
    data = load(arguments.data)
    runs = [run(data, seed) for seed in range(arguments.seeds)]
    known, new = np.mean([r.pop("accuracy") for r in runs], axis=0)
    print(f"Accuracy {known:.3f} on the speakers it knows, {new:.3f} on the others; mean ± deviation over seeds\n")
    print(
        "| | coverage, known speakers | coverage, new speakers | worst new speaker | set size, known | set size, new |"
    )
    print("|---|---|---|---|---|---|")
    for name in PREDICTORS:
        values = np.asarray([r[name] for r in runs])
        mean, spread = values.mean(0), values.std(0)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:3], spread[:3], strict=True)]
        cells += [f"{m:.2f}" for m in mean[3:]]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
