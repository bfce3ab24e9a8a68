"""Text as token numbers, where 0 is padding."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cpsc_train.errors import UserError, needs, out_of_memory, reason

START = 1
"""The token before the first word; what an encoder says of it stands for the text."""
HASHED = 2**15
"""Vocabulary of hashed words."""


class Tokenizer(Protocol):
    """From a text to token numbers (tokens,) int64."""

    vocabulary: int
    """Number of distinct tokens."""

    def __call__(self, text: str, /) -> NDArray[np.int64]:
        """Return the tokens of a text, padded with 0 or cut."""
        ...


class HashedWords:
    """A tokenizer that needs no file: a word's number is its hash.

    Words are runs of letters and digits in lower case, and every other sign by itself. Two of 32,766 numbers are the
    same for about one pair of words in 33,000.

    Parameters
    ----------
    length
        Tokens of a text.

    Examples
    --------
    >>> tokenize = HashedWords(5)
    >>> tokenize("Good, good.").tolist() == [1, *tokenize("good , GOOD .").tolist()[1:]]
    True
    """

    vocabulary = HASHED

    def __init__(self, length: int) -> None:
        self._length = length

    def __call__(self, text: str, /) -> NDArray[np.int64]:
        """Return the tokens of a text."""
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        numbers = [START, *(2 + zlib.crc32(word.encode()) % (HASHED - 2) for word in words)][: self._length]
        return np.array(numbers + [0] * (self._length - len(numbers)), dtype=np.int64)


class Pretrained:
    """The tokenizer that lies in a local folder.

    Parameters
    ----------
    folder
        Where it lies.
    length
        Tokens of a text.

    Raises
    ------
    UserError
        If there is none, its padding is not number 0, or transformers is not installed.
    """

    def __init__(self, folder: Path, length: int) -> None:
        with needs("transformers", extra="text"):
            from transformers import AutoTokenizer  # noqa: PLC0415  # an extra, and slow to import
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of a tokenizer")
        try:
            self._found: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # a damaged folder can make the library fail in any way
            if out_of_memory(error):
                raise
            raise UserError(f"{folder}: holds no readable tokenizer ({reason(error)})") from None
        if self._found.pad_token_id != 0:
            raise UserError(f"{folder}: padding must be token 0, got {self._found.pad_token_id}")
        self.vocabulary = len(self._found)
        self._length = length

    def __call__(self, text: str, /) -> NDArray[np.int64]:
        """Return the tokens of a text."""
        numbers = self._found(text, truncation=True, max_length=self._length, padding="max_length")["input_ids"]
        return np.array(numbers, dtype=np.int64)
