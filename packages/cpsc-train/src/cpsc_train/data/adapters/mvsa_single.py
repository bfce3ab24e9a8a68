"""MVSA-Single: posts with an image and a text, and the feeling in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import Modality, check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.media.images import Cropping, read_image
from cpsc_train.data.media.tokens import HashedWords, Pretrained, Tokenizer
from cpsc_train.data.splits import rows_by_part
from cpsc_train.data.storage.files import Place, check_root, fields, read_bytes, read_list
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import DataError, UserError

MODALITIES = ("image", "text")
CLASSES = ("negative", "neutral", "positive")
LISTS = {"train.jsonl": "train", "dev.jsonl": "validation", "test.jsonl": "test"}
ORIGINAL = "labelResultAll.txt"
MEAN = (119.289, 113.5515, 103.683)
DEVIATION = (31.161, 30.9825, 36.669)
ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
"""What texts are read as: the first that fits; the last fits always."""


@dataclass(frozen=True)
class Post:
    """One post: what it is called, its class, part, text and image, and where it is listed."""

    name: str
    label: int
    part: str
    text: str
    image: Place
    place: str


@dataclass(frozen=True, kw_only=True)
class MVSASingleConfig(StoredConfig, name="mvsa-single"):
    """The distribution, ``labelResultAll.txt`` and ``data/ID.{jpg,txt}``, or ``{train,dev,test}.jsonl``.

    A row of the latter has ``id``, ``label``, ``text`` and ``img``, a path from the folder.
    """

    modalities: tuple[str, ...] = MODALITIES
    """Both of image, text."""
    root: str = "data/mvsa-single"
    """Folder of the lists."""
    labels: Literal["agree", "merge"] = "agree"
    """Of the distribution, whose image and text have a label each. ``agree``: rows whose two are the same; ``merge``:
    also the one of them that is not neutral, without positive beside negative. Its rows have no official division."""
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

    def load(self) -> MVSASingle:
        """Read the lists, the texts and the tokenizer; images are read when they are needed."""
        root = check_root(self.root)
        faults = Faults()
        dropped: list[str] = []
        if any((root / name).is_file() for name in LISTS):
            posts = [post for name, part in LISTS.items() for post in _derived(root, root / name, part, faults)]
        elif (root / ORIGINAL).is_file():
            posts = _original(root, self.labels, faults, dropped)
        else:
            raise UserError(f"{root}: holds neither {ORIGINAL} nor {', '.join(LISTS)}")
        posts = first_of_each(posts, [post.name for post in posts], [post.place for post in posts], faults)
        kept = []
        for post in posts:
            if post.image.is_file():
                kept.append(post)
            else:
                faults.add(post.name, DataError(f"{post.place}: {post.image} is missing", "missing"))
        return MVSASingle(self, kept, faults, dropped)


class MVSASingle(Stored):
    """Images (3, size, size) in [0, 255] beside texts, which become token numbers (tokens,).

    Parameters
    ----------
    config
        Sizes, and the tokenizer.
    posts
        What there is.
    faults, dropped
        What was found on the way, and what is left out on purpose.
    """

    classes = CLASSES

    def __init__(self, config: MVSASingleConfig, posts: list[Post], faults: Faults, dropped: list[str]) -> None:
        self._posts = posts
        self.ids = [post.name for post in posts]
        self.labels = np.array([post.label for post in posts], dtype=np.int64)
        self.faults, self.notes, self.dropped = faults.found, faults.notes, dropped
        self.parts = rows_by_part([post.part for post in posts]) if posts and posts[0].part else None
        self._tokenize: Tokenizer = (
            HashedWords(config.tokens)
            if config.tokenizer is None
            else Pretrained(Path(config.tokenizer), config.tokens)
        )
        self._cropping = Cropping(round(config.size * 256 / 224), config.size)
        known = {
            "image": Modality(
                kind="image", shape=(3, config.size, config.size), bounds=(0.0, 255.0), mean=MEAN, deviation=DEVIATION
            ),
            "text": Modality(kind="text", shape=(config.tokens,), vocabulary=self._tokenize.vocabulary),
        }
        self.modalities = {name: known[name] for name in config.modalities}
        self.decoded = [name for name in config.modalities if name == "image"]
        self.use_cache(config.cache)

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        """Return the image (h, w, 3)."""
        return np.asarray(read_image(self._posts[row].image))

    def decoders(self, modality: str, /) -> Sequence[str]:
        """Return the package that decodes images."""
        return ("pillow",)

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[Any]:
        """Return the text, or the middle of the image, or a random square of it."""
        if modality == "text":
            return np.array(self._posts[row].text, dtype=object)
        return self._cropping.shown(self.held(modality, row), generator)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        """Return token numbers of texts."""
        return np.stack([self._tokenize(text) for text in values]) if modality == "text" else values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        """Return the image."""
        image = self._posts[row].image
        return {f"image{image.suffix}": image}


def _derived(root: Place, file: Place, part: str, faults: Faults) -> list[Post]:
    def parse(line: str, number: int) -> Post:
        where = f"{file}:{number}"
        try:
            row = parse_json(line)
            name, label, text, image = (row[key] for key in ("id", "label", "text", "img"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{where}: must be an object with id, label, text and img ({error!r})", "bad line"
            ) from None
        if label not in CLASSES:
            raise DataError(f"{where}: label must be one of {', '.join(CLASSES)}, got {label!r}", "unknown class")
        if not isinstance(text, str) or not isinstance(image, str):
            raise DataError(f"{where}: text and img must be strings", "bad line")
        return Post(str(name), CLASSES.index(label), part, text, inside(root, image, where), f"{file.name}:{number}")

    return read_list(file, parse, faults)


def _original(root: Place, rule: str, faults: Faults, dropped: list[str]) -> list[Post]:
    file = root / ORIGINAL
    other: dict[str, int] = {}

    def parse(line: str, number: int) -> Post | None:
        where = f"{file}:{number}"
        name, both = fields(line, "\t", 2, where)
        labels = fields(both, ",", 2, where)
        for label in labels:
            if label not in CLASSES:
                raise DataError(f"{where}: label must be one of {', '.join(CLASSES)}, got {label!r}", "unknown class")
        merged = _merged(labels, rule)
        if merged is None:
            dropped.append(f"{name} ({ORIGINAL}:{number}, {both})")
            return None
        image = inside(root / "data", f"{name}.jpg", where)
        text, encoding = _text(root / "data" / f"{name}.txt")
        other[encoding] = other.get(encoding, 0) + 1
        return Post(name, CLASSES.index(merged), "", text, image, f"{ORIGINAL}:{number}")

    posts = read_list(file, parse, faults, header=_is_header)
    for encoding in ENCODINGS[1:]:
        if encoding in other:
            faults.note(
                f"{root / 'data'}: {other[encoding]} texts are not UTF-8 and are read as {encoding}", "bad encoding"
            )
    return posts


def _is_header(line: str) -> bool:
    return line.split("\t", maxsplit=1)[0].strip().lower() == "id"


def _merged(labels: list[str], rule: str) -> str | None:
    """Return the one label of a text and its image, or ``None`` if the row is left out."""
    if labels[0] == labels[1]:
        return labels[0]
    if rule == "agree" or "neutral" not in labels:
        return None
    return labels[0] if labels[1] == "neutral" else labels[1]


def _text(path: Place) -> tuple[str, str]:
    """Return a text and the encoding it was read as."""
    held = read_bytes(path)
    for encoding in ENCODINGS:
        try:
            return held.decode(encoding).strip(), encoding
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 reads anything")
