"""Spoken and written digits: the Free Spoken Digit Dataset and MNIST, paired by label."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, check_modalities
from cpsc_train.data.faults import Faults
from cpsc_train.data.media.sound import log_spectrogram, read_sound
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import Reader
from cpsc_train.data.splits import rows_by_part
from cpsc_train.data.storage.files import Place, check_root, read_bytes
from cpsc_train.data.storage.untrusted import DEFLATE
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError, UserError

RATE = 8000
"""Sampling rate in Hz. Recordings are cut or padded with zeros to one second."""
MODALITIES = {
    "audio": Modality(kind="sound", shape=(1, 32, 32), rate=RATE),
    "image": Modality(kind="image", shape=(1, 28, 28), bounds=(0.0, 255.0)),
}
IMAGES = "t10k-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


@dataclass(frozen=True, kw_only=True)
class AVDigitsConfig(DataConfig, name="av-digits"):
    """Digits as recordings and as images; a log spectrogram of 32 bands × 32 frames, and 28×28 pixels."""

    licence = "recordings CC BY-SA 4.0 (Free Spoken Digit Dataset), images CC BY-SA 3.0 (MNIST)"

    modalities: tuple[str, ...] = ("audio", "image")
    """Both of audio, image."""
    root: str = "data/av-digits"
    """Holds ``recordings/{digit}_{speaker}_{index}.wav`` and the test images and labels of MNIST, gzipped."""
    split: Literal["official", "speaker"] = "official"
    """``official``: indices 0 to 4 of every digit and speaker are for test; ``speaker``: one speaker is for test and
    another for validation, so that test rows are not exchangeable with calibration rows."""
    test_speaker: str = "theo"
    """Speaker for test, with ``speaker``."""
    validation_speaker: str = "nicolas"
    """Speaker for validation, with ``speaker``."""
    pairing_seed: int = 0
    """Seed of the pairing of images with recordings of the same digit."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, list(MODALITIES))
        if self.test_speaker == self.validation_speaker:
            raise UserError(f"data.test_speaker and data.validation_speaker must differ, got {self.test_speaker!r}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of recordings at 8 kHz, and of images in their shape."""
        kinds = {"audio": DigitReader, "image": Reader}
        return {name: kinds[name](modality) for name, modality in modalities.items()}

    def load(self) -> AVDigits:
        return AVDigits(self)


class DigitReader(Reader):
    """Reader of sound files and waveforms at 8 kHz, cut or padded with zeros to one second."""

    values_shape = (RATE,)

    @property
    def accepts(self) -> str:
        return f"a sound file or a waveform of shape (samples,), both at {RATE:,} Hz"

    def decode(self, file: Place) -> NDArray[np.float32]:
        samples, rate = read_sound(file)
        if rate != RATE:
            raise DataError(f"{file}: must have {RATE} samples a second, got {rate}", "wrong rate")
        return samples

    def present(self, content: NDArray[Any]) -> NDArray[np.float32]:
        if content.ndim != 1 or not len(content):
            raise DataError(f"must be {self.accepts}, got shape {content.shape}", "wrong size")
        second = np.zeros(RATE, np.float32)
        second[: len(content)] = content[:RATE]
        return second

    def inputs(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, 1, 32, 32): 64 bands of 62.5 Hz by 64 frames of 1/64 s, averaged two by two."""
        fine: NDArray[np.float32] = log_spectrogram(values, n_fft=128, hop=125)[:, :64, :64]
        return np.asarray(fine.reshape(-1, 1, 32, 2, 32, 2).mean((3, 5)), dtype=np.float32)


SOUND = DigitReader(MODALITIES["audio"])


class AVDigits(Dataset):
    """All recordings, each paired with an image of its digit that no other has."""

    classes = tuple("0123456789")

    def __init__(self, config: AVDigitsConfig) -> None:
        root = check_root(config.root)
        self.modalities = {name: MODALITIES[name] for name in config.modalities}
        faults = Faults()
        recordings = _recordings(root / "recordings", faults)
        self.faults = faults.errors
        self._files = [recording.file for recording in recordings]
        self.ids = StringArray.of(file.stem for file in self._files)
        self.labels = np.array([recording.digit for recording in recordings], dtype=np.int64)
        images, labels = _read_idx(root / IMAGES, 3), _read_idx(root / LABELS, 1)
        if len(images) != len(labels):
            raise UserError(f"{root / LABELS}: holds {len(labels)} labels for {len(images)} images")
        if images.shape[1:] != (28, 28):
            raise UserError(f"{root / IMAGES}: images must have 28×28 pixels, got {images.shape[1:]}")
        paired = _pair(self.labels, labels, config.pairing_seed, root / LABELS)
        samples = [recording.samples for recording in recordings]
        self._values = {
            "audio": np.stack(samples) if samples else np.zeros((0, RATE), np.float32),
            "image": images[paired][:, None].astype(np.float32),
        }
        self.groups = [recording.speaker for recording in recordings]
        self.parts = _parts(config, recordings)

    def read(self, modality: str, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Return the images at `rows`, or one second of each recording, (n, 8000)."""
        return self._values[modality][rows]

    def inputs(self, modality: str, values: NDArray[np.float32], /) -> NDArray[np.float32]:
        return SOUND.inputs(values) if modality == "audio" else values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the recording; all images are in one file."""
        return {"sound.wav": self._files[row]}


@dataclass(frozen=True)
class _Recording:
    file: Place
    digit: int
    speaker: str
    index: int
    samples: NDArray[np.float32]


def _recordings(folder: Place, faults: Faults) -> list[_Recording]:
    files = sorted(path for path in folder.iterdir() if path.suffix == ".wav") if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder}: holds no recordings (*.wav)")
    recordings = []
    for file in files:
        try:
            recordings.append(_read(file))
        except DataError as error:
            faults.add(file.stem, error)
    return recordings


def _read(file: Place) -> _Recording:
    match = re.fullmatch(r"(\d)_([A-Za-z0-9-]+)_(\d+)", file.stem)
    if match is None:
        raise DataError(f"{file}: must be named digit_speaker_index.wav", "bad name")
    second = SOUND.present(SOUND.decode(file))
    return _Recording(file, int(match[1]), match[2], int(match[3]), second)


def _read_idx(file: Place, dimensions: int) -> NDArray[np.uint8]:
    """Return an array of bytes in the format of MNIST, https://yann.lecun.com/exdb/mnist."""
    packed = read_bytes(file)
    size = 4 + 4 * dimensions
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacked:
            header = unpacked.read(size)
            if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < size:
                raise UserError(f"{file}: is not an idx file of bytes with {dimensions} dimensions")
            shape = tuple(int(n) for n in np.frombuffer(header[4:], ">u4"))
            count = math.prod(shape)
            content = unpacked.read(min(count, DEFLATE * len(packed)) + 1)
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{file}: is not a readable gzip file") from None
    if len(content) != count:
        got = "more" if len(content) > count else len(content)
        raise UserError(f"{file}: must hold {' × '.join(map(str, shape))} bytes, got {got}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _pair(digits: NDArray[np.int64], labels: NDArray[np.uint8], seed: int, file: Place) -> NDArray[np.int64]:
    """Return the row of an image for each digit; no image twice."""
    generator = np.random.default_rng(seed)
    paired = np.empty(len(digits), dtype=np.int64)
    for digit in range(10):
        places, images = np.flatnonzero(digits == digit), np.flatnonzero(labels == digit)
        if len(images) < len(places):
            raise UserError(f"{file}: has {len(images)} images of {digit} for {len(places)} recordings")
        paired[places] = generator.permutation(images)[: len(places)]
    return paired


def _parts(config: AVDigitsConfig, recordings: list[_Recording]) -> dict[str, NDArray[np.int64]]:
    if config.split == "official":
        return {"test": np.array([row for row, r in enumerate(recordings) if r.index < 5], dtype=np.int64)}
    parts = rows_by_part([recording.speaker for recording in recordings])
    for name in (config.test_speaker, config.validation_speaker):
        if name not in parts:
            raise UserError(f"speaker {name!r} has no recordings (there are: {', '.join(sorted(parts))})")
    return {"test": parts[config.test_speaker], "validation": parts[config.validation_speaker]}
