"""The command that usually follows another, printed at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpsc_train.data import DataConfig
    from cpsc_train.output import Output

FLAGS = {"modules": "import", "recipe": "data"}
"""Names of options where hints print another than that of the field."""


def print_next(console: Output, *commands: Sequence[str | Path]) -> None:
    """Print commands, each given by its words, so that they can be pasted into a shell."""
    for words in commands:
        console.print(f"next: {shlex.join(map(str, words))}", soft_wrap=True)


def new_samples(data: DataConfig) -> str:
    """Return a name for a file of new samples, in the format of the training data where this is one file.

    Others that are read from files are predicted from a table of paths, and arrays from arrays.

    Examples
    --------
    >>> from cpsc_train.recipes import recipe
    >>> new_samples(recipe("handwritten").data), new_samples(recipe("crema-d").data)
    ('new.npz', 'new.csv')
    """
    from cpsc_train.data.families.stored import StoredConfig

    suffix = Path(getattr(data, "root", "")).suffix
    if suffix not in {".npz", ".csv", ".tsv", ".jsonl"}:
        suffix = ".csv" if isinstance(data, StoredConfig) else ".npz"
    return f"new{suffix}"


def shared(options: Any, names: Iterable[str]) -> list[str]:
    """Return the words that repeat those of the named options that differ from their defaults.

    Examples
    --------
    >>> from cpsc_train.cli.options import RunOptions
    >>> shared(RunOptions(recipe="av-digits", set=("epochs=3", "seed=1")), ["recipe", "mode", "set"])
    ['--data', 'av-digits', '--set', 'epochs=3', '--set', 'seed=1']
    """
    words = []
    for name in names:
        value = getattr(options, name)
        values = value if isinstance(value, tuple) else () if value == getattr(type(options), name) else (value,)
        words += [word for one in values for word in (f"--{FLAGS.get(name, name)}", str(one))]
    return words
