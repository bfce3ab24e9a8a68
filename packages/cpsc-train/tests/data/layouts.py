"""Small data sets of random content, in the layouts that the real ones have."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
from PIL import Image


def wav(path: Path, seconds: float = 0.2, *, rate: int = 8000, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((values * 32767).astype("<i2").tobytes())


def picture(path: Path, width: int = 40, height: int = 30, *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def clip(root: Path, sound: str, frames: str, name: str, *, seed: int) -> None:
    wav(root / sound / f"{name}.wav", seed=seed)
    for frame in range(3):
        picture(root / frames / name / f"{frame:05d}.jpg", seed=seed + frame)


def crema_d(root: Path) -> Path:
    emotions = ["NEU", "HAP", "SAD", "FEA", "DIS", "ANG"]
    rows: dict[str, list[str]] = {"train.csv": [], "test.csv": []}
    for actor in range(1001, 1011):
        for place, emotion in enumerate(emotions):
            name = f"{actor}_DFA_{emotion}_XX"
            clip(root, "AudioWAV", "Image-01-FPS", name, seed=actor * 10 + place)
            rows["test.csv" if actor % 5 == 0 else "train.csv"].append(f"{name},{emotion}")
    for name, lines in rows.items():
        (root / name).write_text("﻿" + "\n".join(lines) + "\n", encoding="utf-8")
    return root


def kinetics_sounds(root: Path) -> Path:
    for name, count in (("my_train.txt", 10), ("my_test.txt", 1)):
        rows = [(f"{name[3:5]}-{label}_{i}", label) for label in range(31) for i in range(count)]
        for seed, (sample, _) in enumerate(rows):
            clip(root, "audio", "frames", sample, seed=seed)
        (root / name).write_text("".join(f"{sample},10,{label}\n" for sample, label in rows), encoding="utf-8")
    return root


def ave(root: Path) -> Path:
    lists = {"trainSet.txt": 8, "valSet.txt": 2, "testSet.txt": 2}
    for name, count in lists.items():
        rows = []
        for label in ("Church bell", "Female speech, woman speaking", "Frying (food)"):
            for i in range(count):
                sample = f"{name[:2]}{label[:2]}{i}"
                clip(root, "audio", "frames", sample, seed=i)
                rows.append(f"{label}&{sample}&good&{i % 3}&{8 + i % 3}")
        if name == "trainSet.txt":
            rows.append("Church bell&teCh0&good&0&10")
        (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def mvsa_single(root: Path) -> Path:
    number = 0
    for name, count in (("train", 8), ("dev", 2), ("test", 2)):
        rows = []
        for label in ("negative", "neutral", "positive"):
            for _ in range(count):
                number += 1
                picture(root / "data" / f"{number}.jpg", 300, 200, seed=number)
                text = f"this is {label} no {number}"
                rows.append({"id": number, "label": label, "text": text, "img": f"data/{number}.jpg"})
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return root


def rgbd(root: Path, classes: tuple[str, ...]) -> Path:
    """Depth is the negative of colour, so that a test can see whether both were cut alike."""
    for part, count in (("train", 8), ("test", 2)):
        for label in classes:
            for i in range(count):
                path = root / part / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = np.random.default_rng([len(part), i]).integers(0, 256, (24, 32, 3), dtype=np.uint8)
                Image.fromarray(np.concatenate([values, 255 - values], 1)).save(path)
    return root
