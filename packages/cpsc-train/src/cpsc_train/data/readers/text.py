"""Reader of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.media.tokens import Tokenizer
from cpsc_train.data.readers.base import Content, Reader
from cpsc_train.data.storage.files import read_text
from cpsc_train.data.storage.packed import Packed
from cpsc_train.errors import DataError

if TYPE_CHECKING:
    from cpsc_train.data.modality import Modality


class TextReader(Reader):
    """Reader of texts, and of text files in UTF-8; its inputs are token numbers (n, tokens).

    - `modality`: properties of the tokens.
    - `tokenize`: returns the tokens of a text.

    Examples
    --------
    >>> from cpsc_train.data import Modality
    >>> from cpsc_train.data.media.tokens import HashedWords
    >>> reader = TextReader(Modality(kind="text", shape=(4,)), HashedWords(4))
    >>> (reader.inputs([reader.read("a cat")]) > 0).tolist()
    [[True, True, True, False]]
    """

    def __init__(self, modality: Modality, tokenize: Tokenizer) -> None:
        super().__init__(modality)
        self._tokenize = tokenize

    @property
    def accepts(self) -> str:
        return "a text, the path of a text file, or its content as bytes"

    def read(self, given: object) -> NDArray[Any]:
        """Return a text as an array of dtype object without dimensions."""
        if isinstance(given, bytes | bytearray | memoryview):
            given = Content(bytes(given))
        text = read_text(given).strip() if isinstance(given, Path | Packed) else given
        if not isinstance(text, str):
            raise DataError(f"must be {self.accepts}, got {type(given).__name__}", "wrong form")
        return np.array(str(text), dtype=object)

    def inputs(self, values: NDArray[Any]) -> NDArray[Any]:
        tokens = [self._tokenize(str(text)) for text in values]
        return np.array(tokens, dtype=np.int64).reshape(len(tokens), *self.modality.shape)
