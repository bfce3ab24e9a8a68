"""Tokenizers, from text to token numbers, where 0 is padding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.strings import crc32
from cpsc_train.errors import UserError, needs, out_of_memory, reason
from cpsc_train.packaged import local_path

START = 1
"""Token before the first word; an encoder's output there represents the text."""
HASHED = 2**15
"""Vocabulary size of hashed words."""


class HashedWords:
    """Tokenizer that needs no file: the number of a word is its hash.

    Words are runs of letters and digits in lower case; every other character is a word of its own. About one pair of
    words in 33,000 shares one of the 32,766 numbers.

    `length`: number of tokens of a text, padded with 0 or cut.

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
        """Return the tokens of a text, (length,)."""
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        numbers = [START, *(2 + crc32(word) % (HASHED - 2) for word in words)][: self._length]
        return np.array(numbers + [0] * (self._length - len(numbers)), dtype=np.int64)


class Pretrained:
    """Tokenizer of transformers from a local folder or an installed package.

    Raises UserError if the folder is missing or unreadable, padding is not token 0, or transformers is not installed.

    - `folder`: path of the tokenizer, or the name of a package, as in `local_path`.
    - `length`: number of tokens of a text, padded with 0 or cut.
    """

    def __init__(self, folder: str | Path, length: int) -> None:
        folder = local_path(str(folder))
        with needs("transformers", extra="text"):
            from transformers import AutoTokenizer  # noqa: PLC0415  # an extra, and slow to import
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of a tokenizer")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # a damaged folder can make the library fail in any way
            if out_of_memory(error):
                raise
            raise UserError(f"{folder}: holds no readable tokenizer ({reason(error)})") from None
        if self._tokenizer.pad_token_id != 0:
            raise UserError(f"{folder}: padding must be token 0, got {self._tokenizer.pad_token_id}")
        self.vocabulary = len(self._tokenizer)
        self._length = length

    def __call__(self, text: str, /) -> NDArray[np.int64]:
        """Return the tokens of a text, (length,)."""
        numbers = self._tokenizer(text, truncation=True, max_length=self._length, padding="max_length")["input_ids"]
        return np.array(numbers, dtype=np.int64)


Tokenizer = HashedWords | Pretrained
