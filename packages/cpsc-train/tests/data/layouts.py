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


def clip(root: Path, sound: str, frames: str, name: str, *, seed: int, seconds: float = 0.2) -> None:
    wav(root / sound / f"{name}.wav", seconds, seed=seed)
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
                clip(root, "audio", "frames", sample, seed=i, seconds=10.0)
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


def video(path: Path, seconds: float = 3.0, *, fps: int = 10, tone: float = 440.0, sound: bool = True) -> None:
    """A grey that brightens from black to white over the time, and a tone."""
    import av  # noqa: PLC0415  # an extra

    path.parent.mkdir(parents=True, exist_ok=True)
    codecs = {".flv": ("flv", "libmp3lame"), ".mp4": ("libx264", "aac"), ".webm": ("libvpx-vp9", "libopus")}
    rate = 48_000 if path.suffix == ".webm" else 44_100
    with av.open(str(path), "w") as file:
        picture = file.add_stream(codecs[path.suffix][0], rate=fps)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        audio = file.add_stream(codecs[path.suffix][1], rate=rate, layout="mono") if sound else None
        count = round(seconds * fps)
        for k in range(count):
            grey = np.full((48, 64, 3), round(255 * (k + 0.5) / count), np.uint8)
            file.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(picture.encode(None))
        if audio is not None:
            wave_ = 0.5 * np.sin(2 * np.pi * tone * np.arange(round(seconds * rate)) / rate).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave_[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            audio.codec_context.open(strict=False)
            size = audio.codec_context.frame_size or None
            resampler = av.AudioResampler(audio.codec_context.format, "mono", rate, frame_size=size)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(audio.encode(part))
            file.mux(audio.encode(None))


def crema_d_native(root: Path) -> Path:
    for actor in range(1001, 1011):
        for emotion in ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG"):
            name = f"{actor}_DFA_{emotion}_XX"
            wav(root / "AudioWAV" / f"{name}.wav", seed=actor)
            video(root / "VideoFlash" / f"{name}.flv")
    return root


def kinetics_sounds_native(root: Path) -> Path:
    for name, count in (("my_train.txt", 4), ("my_test.txt", 1)):
        rows = []
        for label, folder in ((2, "bowling"), (4, "dribbling_basketball"), (30, "tickling")):
            for i in range(count):
                key = f"{name[3:5]}{label:02d}-------"
                video(root / folder / f"{key}_{i:06d}_{i + 10:06d}.mp4", seconds=2.0)
                rows.append(f"{key}_{i:06d}_{i + 10:06d},10,{label}" if "train" in name else f"{key}_{i} 10 {label}")
        (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def ave_native(root: Path) -> Path:
    for name, count in (("trainSet.txt", 4), ("valSet.txt", 1), ("testSet.txt", 1)):
        rows = ["Category&VideoID&Quality&StartTime&EndTime"]
        for label in ("Church bell", "Frying (food)"):
            for i in range(count):
                sample = f"{name[:2]}{label[:2]}{i}"
                video(root / "AVE" / f"{sample}.mp4", seconds=10.0, fps=5)
                rows.append(f"{label}&{sample}&good&2&6")
        (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def mvsa_original(root: Path) -> Path:
    """Thirty rows that agree, and six that do not; one text in Latin letters of Windows."""
    pairs = [(label, label) for label in ("negative", "neutral", "positive") for _ in range(10)]
    pairs += [("positive", "negative"), ("neutral", "positive"), ("negative", "neutral")] * 2
    rows = ["ID\ttext,image"]
    for number, (text, image) in enumerate(pairs, 1):
        picture(root / "data" / f"{number}.jpg", 60, 40, seed=number)
        written = f"café number {number}".encode("cp1252" if number == 1 else "utf-8")
        (root / "data" / f"{number}.txt").write_bytes(written)
        rows.append(f"{number}\t{text},{image}")
    (root / "labelResultAll.txt").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8")
    return root


def nyu_native(root: Path, scenes: int = 24) -> Path:
    import h5py  # noqa: PLC0415  # an extra
    from scipy.io import savemat  # noqa: PLC0415

    generator = np.random.default_rng(0)
    kinds = [("kitchen", "bedroom", "cafe")[row % 3] for row in range(scenes)]
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = generator.integers(0, 256, (scenes, 3, 32, 24), dtype=np.uint8)
        file["depths"] = generator.uniform(0.7, 9.9, (scenes, 32, 24)).astype(np.float32)
        cells = file.create_dataset("sceneTypes", (1, scenes), dtype=h5py.ref_dtype)
        for row, kind in enumerate(kinds):
            text = file.create_dataset(f"#refs#/{row}", data=np.array([[ord(sign)] for sign in kind], np.uint16))
            cells[0, row] = text.ref
    numbers = np.arange(1, scenes + 1)
    test = numbers % 4 == 0
    savemat(root / "splits.mat", {"trainNdxs": numbers[~test][:, None], "testNdxs": numbers[test][:, None]})
    return root


def sun_native(root: Path) -> Path:
    from scipy.io import savemat  # noqa: PLC0415

    parts = {"alltrain": [], "alltest": []}
    place = 0
    for room in ("kitchen", "office", "gym"):
        for i in range(6):
            place += 1
            name = f"kv2/kinect2data/{place:06d}_2014"
            folder = root / "SUNRGBD" / name
            picture(folder / "image" / "0000001.jpg", 40, 30, seed=place)
            (folder / "depth_bfx").mkdir(parents=True)
            metres = np.linspace(500, 9000, 1200).reshape(30, 40).astype(np.uint16)
            turned = ((metres << 3) | (metres >> 13)).astype(np.uint16)
            Image.fromarray(turned).save(folder / "depth_bfx" / "0000001.png")
            (folder / "scene.txt").write_text(room, encoding="utf-8")
            (folder / "intrinsics.txt").write_text("40 0 20 0 40 15 0 0 1", encoding="utf-8")
            parts["alltest" if i == 0 else "alltrain"].append(f"/n/fs/sun3d/data/SUNRGBD/{name}")
    official = root / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    official.mkdir(parents=True)
    savemat(official / "allsplit.mat", {name: np.array([found], dtype=object) for name, found in parts.items()})
    return root


def rgb_and_depth(root: Path, classes: tuple[str, ...]) -> Path:
    """Separate trees; depth of 16 bits in millimetres."""
    for part, count in (("train", 8), ("test", 2)):
        for label in classes:
            for i in range(count):
                picture(root / "rgb" / part / label / f"{i}.jpg", 32, 24, seed=i)
                deep = root / "depth" / part / label / f"{i}.png"
                deep.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.arange(1000, 1768, dtype=np.uint16).reshape(24, 32)).save(deep)
    return root
