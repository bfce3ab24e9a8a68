"""The command that usually follows another, printed at its end, and the keys of ``--set`` meant by unknown options."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpsc_train.cli.options import Command
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


def keys_meant(command: type[Command], arguments: Iterable[str]) -> list[str]:
    """Return the keys of ``--set`` that end in the names of options that a command does not have.

    Examples
    --------
    >>> from cpsc_train.cli.train import Train
    >>> keys_meant(Train, ["--epochs", "3", "--alpha", "0.2", "--batch-size=8"])
    ['conformal.alpha', 'batch_size']
    """
    from cpsc_train.recipes import recipe

    own = {field.name for field in fields(command)}
    names = (word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--"))
    unknown = [name for name in names if name not in own]
    if "set" not in own or not unknown:
        return []
    keys = list(_keys(recipe("table").to_plain()))
    return [key for name in unknown for key in keys if key.rpartition(".")[2] == name]


def _keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


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
