"""Random damage to files: bytes are flipped, cut, doubled, replaced by tokens and copied from another file."""

import os

import numpy as np

TOKENS = [
    *(
        b"",
        b"\0",
        b"\n",
        b"\r\n",
        b",",
        b"\t",
        b"=",
        b".",
        b"../",
        b"/etc/passwd",
        b"-1",
        b"0",
        b"1e999",
        b"nan",
        b"inf",
    ),
    *(b"null", b"true", b"{}", b"[]", b'""', b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 30, b"[" * 2000, b"a" * 300, b"name"),
    *(
        b"import",
        b"1979-05-27T07:32:00Z",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\xf0\x9f\x92\xa5",
        b"%s",
        b"'''",
        b"#",
    ),
]


def damaged(rng: np.random.Generator, content: bytes, other: bytes = b"") -> bytes:
    """Return bytes that differ in one to four places; `other` is a file to copy pieces from."""
    result = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(0, len(result) + 1)), int(rng.geometric(0.1))
        kind = int(rng.integers(0, 6))
        if kind == 0 and result:
            result[place % len(result)] ^= int(rng.integers(1, 256))
        elif kind == 1:
            result[place : place + length] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 2:
            del result[place : place + length]
        elif kind == 3:
            result[place:place] = result[place : place + length]
        elif kind == 4 and other:
            start = int(rng.integers(0, len(other)))
            result[place : place + length] = other[start : start + length]
        elif kind == 5 and rng.random() < 0.2:
            del result[place:]
    return bytes(result)


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))
