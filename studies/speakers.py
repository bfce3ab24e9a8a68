"""Coverage of online predictors on spoken digits, of three known speakers and then of three unknown ones.

    python studies/speakers.py RECORDINGS

RECORDINGS is the folder of the Free Spoken Digit Dataset (CC BY-SA 4.0) with {digit}_{speaker}_{index}.wav. A logistic
regression on band energies is trained and calibrated on three speakers; the stream is more of them, then the other
three, one after another. Printed: coverage and mean set size of each part, for a target of 90 %.
"""

import argparse
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conformal_core import (
    ACI,
    APS,
    LAC,
    SAOCP,
    ConformalPID,
    DecayingStep,
    DtACI,
    Exponential,
    History,
    OnlineClassifier,
    SplitClassifier,
    Window,
)

ALPHA = 0.1
KNOWN = ("george", "jackson", "lucas")


def features(path: Path) -> np.ndarray:
    """Log energy in 16 bands × 8 pieces of the recording."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(float)
    pieces = np.array_split(samples, 8)
    spectra = [np.abs(np.fft.rfft(piece * np.hanning(len(piece)), n=2048)) ** 2 for piece in pieces]
    edges = np.geomspace(8, 1024, 17).astype(int)
    return np.log([[s[a:b].sum() + 1.0 for a, b in pairwise(edges)] for s in spectra]).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of the recordings")
    paths = sorted(parser.parse_args().recordings.glob("*_*_*.wav"))
    if not paths:
        parser.error("no recordings named {digit}_{speaker}_{index}.wav in that folder")
    x = np.stack([features(path) for path in paths])
    digit, speaker, index = (np.asarray(part) for part in zip(*(p.stem.split("_") for p in paths), strict=True))
    y, index = digit.astype(int), index.astype(int)
    known = np.isin(speaker, KNOWN)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    model.fit(x[known & (index >= 20)], y[known & (index >= 20)])
    probs = model.predict_proba(x)
    calibration = np.flatnonzero(known & (index >= 10) & (index < 20))
    rng = np.random.default_rng(0)
    parts = {"known speakers": rng.permutation(np.flatnonzero(known & (index < 10)))}
    parts |= {str(name): rng.permutation(np.flatnonzero(speaker == name)) for name in sorted(set(speaker) - set(KNOWN))}
    print("| | " + " | ".join(f"{name} ({len(rows)})" for name, rows in parts.items()) + " | all |")
    print("|---" * (len(parts) + 2) + "|")
    accuracy = [(probs[rows].argmax(1) == y[rows]).mean() for rows in parts.values()]
    every = np.concatenate(list(parts.values()))
    accuracy.append((probs[every].argmax(1) == y[every]).mean())
    print("| accuracy | " + " | ".join(f"{100 * a:.1f} %" for a in accuracy) + " |")
    online = {
        "all history": {"alpha": ALPHA},
        "window of 300": {"alpha": ALPHA, "memory": Window(300)},
        "exponential, .99": {"alpha": ALPHA, "memory": Exponential(0.99)},
        "ACI, γ = .02, all history": {"level": ACI(alpha=ALPHA, gamma=0.02), "memory": History()},
        "ACI, γ = .02, window of 300": {"level": ACI(alpha=ALPHA, gamma=0.02), "memory": Window(300)},
        "DtACI, window of 300": {"level": DtACI(alpha=ALPHA), "memory": Window(300)},
        "decaying step": {"level": DecayingStep(alpha=ALPHA, start=1.0, rate=1.0)},
        "PID": {"level": ConformalPID(alpha=ALPHA, start=1.0, rate=0.05, integral=0.2)},
        "SAOCP": {"level": SAOCP(alpha=ALPHA, scale=1.0)},
    }
    for score in (LAC(), APS()):
        name = type(score).__name__
        split = SplitClassifier(score, alpha=ALPHA)
        split.calibrate(probs[calibration], y[calibration])
        row(f"{name}, split", [split.predict(probs[rows]) for rows in parts.values()], parts, y)
        for method, options in online.items() if name == "LAC" else list(online.items())[4:5]:
            predictor = OnlineClassifier(score, **options)
            predictor.calibrate(probs[calibration], y[calibration])
            row(f"{name}, {method}", [follow(predictor, probs[rows], y[rows]) for rows in parts.values()], parts, y)


def follow(predictor: OnlineClassifier, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    sets = []
    for p, label in zip(probs, labels.tolist(), strict=True):
        sets.append(predictor.predict(p))
        predictor.update(p, label)
    return np.asarray(sets)


def row(name: str, sets: list[np.ndarray], parts: dict[str, np.ndarray], y: np.ndarray) -> None:
    hits = [s[np.arange(len(rows)), y[rows]] for s, rows in zip(sets, parts.values(), strict=True)]
    cells = [(h.mean(), s.sum(1).mean()) for h, s in zip(hits, sets, strict=True)]
    cells.append((np.concatenate(hits).mean(), np.concatenate(sets).sum(1).mean()))
    print(f"| {name} | " + " | ".join(f"{c:.3f} ({size:.2f})" for c, size in cells) + " |")


if __name__ == "__main__":
    main()
