"""MVSA-Single: posts with an image and a text, and the feeling in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Modality, check_modalities
from cpsc_train.data.media.clips import refuse_repeated, rows_by_part
from cpsc_train.data.media.files import check_root, inside, read_text
from cpsc_train.data.media.images import Cropping, read_image
from cpsc_train.data.media.tokens import hashed_words, pretrained
from cpsc_train.errors import UserError

Rows = NDArray[np.int64]
MODALITIES = ("image", "text")
CLASSES = ("negative", "neutral", "positive")
LISTS = {"train.jsonl": "train", "dev.jsonl": "validation", "test.jsonl": "test"}
MEAN = (119.289, 113.5515, 103.683)
DEVIATION = (31.161, 30.9825, 36.669)


@dataclass(frozen=True, kw_only=True)
class MVSASingleConfig(DataConfig, name="mvsa-single"):
    """``{train,dev,test}.jsonl``, rows of ``id``, ``label``, ``text`` and ``img``, a path from the folder."""

    modalities: tuple[str, ...] = MODALITIES
    """Both of image, text."""
    root: str = "data/mvsa-single"
    """Folder of the three lists."""
    tokenizer: str | None = None
    """A local folder with the tokenizer of the pretrained text encoder; words are hashed if absent."""
    tokens: int = 128
    """Tokens of a text; a longer one is cut."""
    size: int = 224
    """Pixels of the side of an image: the middle in evaluation, anywhere in training."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("tokens", "size"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} must be at least 1, got {getattr(self, name)}")

    def open(self) -> Dataset:
        """Read the lists and the tokenizer; images are read when they are needed."""
        return MVSASingle(self)


class MVSASingle(Dataset):
    """Images (3, size, size) in [0, 255] beside token numbers (tokens,).

    Parameters
    ----------
    config
        Where, and sizes.
    """

    classes = CLASSES

    def __init__(self, config: MVSASingleConfig) -> None:
        root = check_root(config.root)
        held = [(part, *row) for name, part in LISTS.items() for row in _rows(root, root / name)]
        parts, self.ids, labels, texts, self._images = map(list, zip(*held, strict=True))
        refuse_repeated(self.ids, root)
        self.labels = np.array(labels, dtype=np.int64)
        self.parts = rows_by_part(parts)
        tokenize, vocabulary = (
            hashed_words(config.tokens)
            if config.tokenizer is None
            else pretrained(Path(config.tokenizer), config.tokens)
        )
        self._tokens = np.stack([tokenize(text) for text in texts])
        self._size = config.size
        self._cropping = Cropping(round(config.size * 256 / 224), config.size)
        known = {
            "image": Modality(
                kind="image", shape=(3, config.size, config.size), bounds=(0.0, 255.0), mean=MEAN, deviation=DEVIATION
            ),
            "text": Modality(kind="text", shape=(config.tokens,), vocabulary=vocabulary),
        }
        self.modalities = {name: known[name] for name in config.modalities}

    def read(self, modality: str, rows: Rows, /) -> NDArray[Any]:
        """Return the token numbers, or the middle of the images, at `rows`."""
        if modality == "text":
            return self._tokens[rows]
        images = [read_image(self._images[row]) for row in rows]
        return np.stack([self._cropping.centred(image).of(image, self._size) for image in images])

    def augmented(self, modality: str, rows: Rows, generators: Sequence[np.random.Generator], /) -> NDArray[Any]:
        """Return the token numbers as they are, or a random square of the images."""
        if modality == "text":
            return self._tokens[rows]
        images = [read_image(self._images[row]) for row in rows]
        return np.stack([self._cropping.drawn(i, g).of(i, self._size) for i, g in zip(images, generators, strict=True)])


def _rows(root: Path, file: Path) -> list[tuple[str, int, str, Path]]:
    found = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, label, text, image = (row[key] for key in ("id", "label", "text", "img"))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}:{number}: must be an object with id, label, text and img ({error!r})") from None
        if label not in CLASSES:
            raise UserError(f"{file}:{number}: label must be one of {', '.join(CLASSES)}, got {label!r}")
        if not isinstance(text, str) or not isinstance(image, str):
            raise UserError(f"{file}:{number}: text and img must be strings")
        path = inside(root, image, file, number)
        if not path.is_file():
            raise UserError(f"{file}:{number}: {path} is missing")
        found.append((str(name), CLASSES.index(label), text, path))
    if not found:
        raise UserError(f"{file}: lists nothing")
    return found
