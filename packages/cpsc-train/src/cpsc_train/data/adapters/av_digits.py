"""Spoken and written digits: recordings of the Free Spoken Digit Dataset beside images of MNIST, paired by label."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Modality, check_modalities
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.audio import log_spectrogram
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.storage.files import Place, check_root, read_bytes
from cpsc_train.data.storage.untrusted import DEFLATE
from cpsc_train.errors import DataError, UserError

RATE = 8000
"""Samples a second. One second is kept: longer recordings are cut, shorter ones end in zeros."""
MODALITIES = {
    "audio": Modality(kind="sound", shape=(1, 32, 32)),
    "image": Modality(kind="image", shape=(1, 28, 28), bounds=(0.0, 255.0)),
}
IMAGES = "t10k-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


@dataclass(frozen=True, kw_only=True)
class AVDigitsConfig(DataConfig, name="av-digits"):
    """Digits as recordings and as images; a log spectrogram of 32 bands × 32 frames, and 28×28 pixels."""

    modalities: tuple[str, ...] = ("audio", "image")
    """Both of audio, image."""
    root: str = "data/av-digits"
    """Holds ``recordings/{digit}_{speaker}_{index}.wav`` and the test images and labels of MNIST, gzipped."""
    split: Literal["official", "speaker"] = "official"
    """``official``: indices 0 to 4 of every digit and speaker are for test; ``speaker``: one speaker is for test and
    another for validation, so that test rows are not exchangeable with calibration rows."""
    test_speaker: str = "theo"
    """Who is for test, with ``speaker``."""
    validation_speaker: str = "nicolas"
    """Who is for validation, with ``speaker``."""
    pairing_seed: int = 0
    """Seed of which image goes with which recording of the same digit."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, list(MODALITIES))
        if self.test_speaker == self.validation_speaker:
            raise UserError(f"data.test_speaker and data.validation_speaker must differ, got {self.test_speaker!r}")

    def load(self) -> AVDigits:
        """Read all files."""
        return AVDigits(self)


class AVDigits(Dataset):
    """All recordings, each with an image of its digit that no other has.

    Parameters
    ----------
    config
        Where, and how divided.
    """

    classes = tuple("0123456789")

    def __init__(self, config: AVDigitsConfig) -> None:
        root = check_root(config.root)
        self.modalities = {name: MODALITIES[name] for name in config.modalities}
        folder = root / "recordings"
        names = sorted(path for path in folder.iterdir() if path.suffix == ".wav") if folder.is_dir() else []
        if not names:
            raise UserError(f"{folder}: holds no recordings (*.wav)")
        faults = Faults()
        recordings = dict(_recordings(names, faults))
        self.faults = faults.found
        self._files = list(recordings)
        self.ids = [file.stem for file in recordings]
        digits, speakers, indices = (
            zip(*(_parse(file) for file in recordings), strict=True) if recordings else ((),) * 3
        )
        self.labels = np.array(digits, dtype=np.int64)
        images, labels = _read_idx(root / IMAGES, 3), _read_idx(root / LABELS, 1)
        if len(images) != len(labels):
            raise UserError(f"{root / LABELS}: holds {len(labels)} labels for {len(images)} images")
        if images.shape[1:] != (28, 28):
            raise UserError(f"{root / IMAGES}: images must have 28×28 pixels, got {images.shape[1:]}")
        chosen = _pair(self.labels, labels, config.pairing_seed, root / LABELS)
        self._values = {
            "audio": np.stack([*recordings.values()]) if recordings else np.zeros((0, RATE), np.float32),
            "image": images[chosen][:, None].astype(np.float32),
        }
        self.parts = _parts(config, np.array(speakers), np.array(indices))
        self.groups = speakers

    def read(self, modality: str, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Return the images at `rows`, or one second of each recording, (n, 8000)."""
        return self._values[modality][rows]

    def inputs(self, modality: str, values: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return spectrograms of recordings."""
        return _spectrograms(values) if modality == "audio" else values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the recording; all images are in one file."""
        return {"sound.wav": self._files[row]}


def _recordings(files: list[Place], faults: Faults) -> Iterator[tuple[Place, NDArray[np.float32]]]:
    for file in files:
        try:
            _parse(file)
            yield file, _second(file)
        except DataError as error:
            faults.add(file.stem, error)


def _parse(file: Place) -> tuple[int, str, int]:
    found = re.fullmatch(r"(\d)_([A-Za-z0-9-]+)_(\d+)", file.stem)
    if found is None:
        raise DataError(f"{file}: must be named digit_speaker_index.wav", "bad name")
    return int(found[1]), found[2], int(found[3])


def _second(file: Place) -> NDArray[np.float32]:
    samples, rate = read_sound(file)
    if rate != RATE:
        raise DataError(f"{file}: must have {RATE} samples a second, got {rate}", "wrong rate")
    kept = np.zeros(RATE, np.float32)
    kept[: len(samples)] = samples[:RATE]
    return kept


def _spectrograms(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, 1, 32, 32): 64 bands of 62.5 Hz by 64 frames of 1/64 s, averaged two by two."""
    fine: NDArray[np.float32] = log_spectrogram(samples, n_fft=128, hop=125)[:, :64, :64]
    return np.asarray(fine.reshape(-1, 1, 32, 2, 32, 2).mean((3, 5)), dtype=np.float32)


def _read_idx(file: Place, dimensions: int) -> NDArray[np.uint8]:
    """Read an array of bytes in the format of MNIST, https://yann.lecun.com/exdb/mnist."""
    packed = read_bytes(file)
    size = 4 + 4 * dimensions
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacked:
            header = unpacked.read(size)
            if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < size:
                raise UserError(f"{file}: is not an idx file of bytes with {dimensions} dimensions")
            shape = tuple(int(n) for n in np.frombuffer(header[4:], ">u4"))
            count = math.prod(shape)
            held = unpacked.read(min(count, DEFLATE * len(packed)) + 1)
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{file}: is not a readable gzip file") from None
    if len(held) != count:
        there = "more" if len(held) > count else len(held)
        raise UserError(f"{file}: must hold {' × '.join(map(str, shape))} bytes, got {there}")
    return np.frombuffer(held, np.uint8).reshape(shape)


def _pair(wanted: NDArray[np.int64], labels: NDArray[np.uint8], seed: int, file: Place) -> NDArray[np.int64]:
    """Return, for each wanted digit, the place of an image of it; no image twice."""
    generator = np.random.default_rng(seed)
    chosen = np.empty(len(wanted), dtype=np.int64)
    for digit in range(10):
        places, images = np.flatnonzero(wanted == digit), np.flatnonzero(labels == digit)
        if len(images) < len(places):
            raise UserError(f"{file}: has {len(images)} images of {digit} for {len(places)} recordings")
        chosen[places] = generator.permutation(images)[: len(places)]
    return chosen


def _parts(
    config: AVDigitsConfig, speakers: NDArray[np.str_], indices: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    if config.split == "official":
        return {"test": np.flatnonzero(indices < 5)}
    for name in (config.test_speaker, config.validation_speaker):
        if name not in speakers:
            raise UserError(f"speaker {name!r} has no recordings (there are: {', '.join(sorted(set(speakers)))})")
    return {
        "test": np.flatnonzero(speakers == config.test_speaker),
        "validation": np.flatnonzero(speakers == config.validation_speaker),
    }
