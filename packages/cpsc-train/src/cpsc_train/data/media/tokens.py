"""Text as token numbers, where 0 is padding."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.errors import UserError, reason

START = 1
"""The token before the first word; what an encoder says of it stands for the text."""
HASHED = 2**15
"""Vocabulary of hashed words."""

Tokenize = Callable[[str], NDArray[np.int64]]


def hashed_words(length: int) -> tuple[Tokenize, int]:
    """Return a tokenizer that needs no file, and its vocabulary: a word's number is its hash.

    Words are runs of letters and digits in lower case, and every other sign by itself. Two of 32,766 numbers are the
    same for about one pair of words in 33,000.

    Examples
    --------
    >>> tokenize, vocabulary = hashed_words(5)
    >>> tokenize("Good, good.").tolist() == [1, *tokenize("good , GOOD .").tolist()[1:]]
    True
    """

    def tokenize(text: str) -> NDArray[np.int64]:
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        numbers = [START, *(2 + zlib.crc32(word.encode()) % (HASHED - 2) for word in words)][:length]
        return np.array(numbers + [0] * (length - len(numbers)), dtype=np.int64)

    return tokenize, HASHED


def pretrained(folder: Path, length: int) -> tuple[Tokenize, int]:
    """Return the tokenizer that lies in a local folder, and its vocabulary.

    Raises
    ------
    UserError
        If there is none, its padding is not number 0, or transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer  # noqa: PLC0415  # an extra, and slow to import
    except ImportError:
        raise UserError('transformers is not installed: pip install "cpsc-train[text]"') from None
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a tokenizer")
    try:
        found: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged folder can make the library fail in any way
        raise UserError(f"{folder}: holds no readable tokenizer ({reason(error)})") from None
    if found.pad_token_id != 0:
        raise UserError(f"{folder}: padding must be token 0, got {found.pad_token_id}")

    def tokenize(text: str) -> NDArray[np.int64]:
        numbers = found(text, truncation=True, max_length=length, padding="max_length")["input_ids"]
        return np.array(numbers, dtype=np.int64)

    return tokenize, len(found)
