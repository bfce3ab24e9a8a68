"""Arrays of your own: an ``.npz`` file, a table of vectors, or several of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.config import unknown
from cpsc_train.data.dataset import DataConfig, check_names
from cpsc_train.data.families.arrays import Arrays, View, check_finite, stored_noise
from cpsc_train.data.families.joined import Joined, Names, Source, join, read_lists, read_source
from cpsc_train.data.families.kinds import absent_rows, labels_of, named_shapes, parts_of, usable, view
from cpsc_train.data.media.tokens import HashedWords
from cpsc_train.data.modality import Modality
from cpsc_train.data.noise import KINDS
from cpsc_train.data.readers import Reader, TextReader
from cpsc_train.data.storage.tables import SEPARATORS, TABLES
from cpsc_train.errors import DataError, UserError

PRESENT = "present/"
"""Start of the name of an array (N,) that is false where a sample lacks the modality."""
WIDTHS = "widths/"
"""Start of the name of an array (K,) of the widths of the parts of saved features, for each depth of the encoder."""


@dataclass(frozen=True, kw_only=True)
class ArraysConfig(DataConfig, name="arrays"):
    """Your own arrays: .npz files or tables of vectors, with a label per row and optional parts.

    ``cpsc data check arrays --root FILE`` shows how each array is interpreted.
    """

    detects = True

    modalities: tuple[str, ...] = ()
    """Arrays to use, in order. If empty, all with one row per sample that hold numbers of two or more dimensions, or
    texts with blanks."""
    root: str = "data/arrays.npz"
    """An .npz file, a table (.csv, .tsv), or a folder of them."""
    files: tuple[str, ...] = ()
    """Files of the folder, joined by the ids of their samples, or by row. If empty, all .npz files, else all tables."""
    samples: tuple[str, ...] = ()
    """Lists of samples beside the arrays (.csv, .tsv, .jsonl), with an id, a label and a part; a list called
    ``train``, ``dev`` and so on needs no part. Read only if the arrays hold no label."""
    label: str = "label,labels,y,target,class"
    """Name of the array or column of labels, integers or strings. Of several names separated
    by commas, the first that exists is used."""
    id: str = "id,ids,index"
    """Name of the array or column of sample ids, in the same form. If there is none, rows are numbered."""
    split: str = "split,part,subset"
    """The same for parts: train, validation, calibration or test."""
    group: str = "group,groups,subject,speaker"
    """The same for groups, such as speakers."""
    images: tuple[str, ...] = ()
    """Modalities that are images regardless of their shape: ``NAME``, or ``NAME:16x15`` for rows of 240 values."""
    vectors: tuple[str, ...] = ()
    """Modalities that are vectors regardless of their shape."""
    tokens: int = 32
    """Tokens per text; a longer one is cut."""

    def __post_init__(self) -> None:
        named_shapes(self.images)
        if self.tokens < 1:
            raise UserError(f"data.tokens must be at least 1, got {self.tokens}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of texts, and of arrays in the form of the file."""
        return {
            name: TextReader(modality, HashedWords(self.tokens)) if modality.kind == "text" else Reader(modality)
            for name, modality in modalities.items()
        }

    def load(self) -> Arrays:
        """Read all files.

        Raises
        ------
        UserError
            If a file cannot be read, there are no labels, or fewer than two modalities.
        """
        joined = join(self._sources(), [name for names in self._names[1:] for name in names])
        _check_rows(self.root, joined, self._names)
        label = joined.column(_split(self.label))
        if label is None:
            raise UserError(
                f"{self.root}: holds no labels, an array called {self.label.replace(',', ' or ')}: name it with "
                f"data.label (it holds: {', '.join([*joined.arrays, *joined.others])})"
            )
        views, absent, unused = self._views(joined)
        check_names(views)
        return _assemble(self, joined, label, views, absent=absent, unused=unused)

    @property
    def _names(self) -> Names:
        return Names(*map(_split, (self.id, self.label, self.split, self.group)))

    def _sources(self) -> list[Source]:
        root = Path(self.root)
        if root.is_dir():
            files = [root / name for name in self.files] or sorted(root.glob("*.npz"))
            files = files or sorted(path for path in root.iterdir() if path.suffix in SEPARATORS)
            if not files:
                raise UserError(f"{root}: holds no .npz file and no table (.csv, .tsv)")
        elif not root.exists():
            raise UserError(f"{root}: no such file or folder")
        elif self.files:
            raise UserError(f"{root}: data.files needs a folder")
        else:
            files = [root]
        for file in files:
            if file.suffix not in {".npz", *TABLES}:
                raise UserError(f"{file}: must be an .npz file, a table (.csv, .tsv), or a folder of them: see --root")
        sources = [read_source(file, self._names) for file in files]
        if self.samples and not any(name in source.arrays for source in sources for name in self._names.label):
            folder = root if root.is_dir() else root.parent
            sources.append(read_lists([folder / name for name in self.samples], self._names))
        return sources

    def _views(self, joined: Joined) -> tuple[dict[str, View], dict[str, NDArray[np.bool_]], list[str]]:
        """Return the modalities, the rows that lack each, and the arrays that are not used."""
        reserved = {name for names in self._names for name in names} | {"classes"}
        free = [n for n in joined.arrays if n not in reserved and "@" not in n and not n.startswith((PRESENT, WIDTHS))]
        names = list(self.modalities) or [name for name in free if usable(joined.arrays[name])]
        columns = [joined.column(some) for some in self._names]
        for name in (*names, *named_shapes(self.images), *self.vectors):
            if name not in joined.arrays or name in columns:
                raise UserError(f"{self.root}: " + unknown("modality", name, free))
        if len(set(names)) < max(2, len(names)):
            others = "; ".join(_described(joined, name) for name in [*free, *joined.others] if name not in names)
            raise UserError(
                f"{self.root}: must hold at least two modalities of {len(joined.ids)} rows, got "
                f"{', '.join(names) or 'none'}" + (f" (not used: {others})" if others else "")
            )
        views = {name: self._view(joined, name) for name in names}
        absent = {}
        for name in names:
            mask = absent_rows(joined.arrays[name], joined.arrays.get(PRESENT + name), joined.places[name])
            absent[name] = mask | joined.absent.get(name, np.False_)
        used = {*names, "classes", *(start + name for name in names for start in (PRESENT, WIDTHS))}
        used |= {name for name in joined.arrays if name in reserved or _stored(name, names) is not None}
        unused = [name for name in (*joined.arrays, *joined.others) if name not in used]
        return views, absent, [_described(joined, name) for name in unused]

    def _view(self, joined: Joined, name: str) -> View:
        shapes = named_shapes(self.images)
        place, vector = joined.places[name], name in self.vectors
        found = view(joined.arrays[name], place, shape=shapes.get(name), vector=vector, tokens=self.tokens)
        stored = {}
        for key in (key for key in joined.arrays if key.rpartition("@")[:2] == (name, "@")):
            noise = _stored(key, [name])
            if noise is None:
                raise UserError(
                    f"{self.root}: array {key!r} must be called {name}@KIND-SEVERITY, with a kind of {', '.join(KINDS)}"
                )
            stored[noise] = joined.arrays[key]
        depths = _widths(joined, name, found.modality)
        return View(replace(found.modality, depths=depths), found.values, place, stored, found.prepare)


def _assemble(
    config: ArraysConfig,
    joined: Joined,
    label: str,
    views: Mapping[str, View],
    *,
    absent: Mapping[str, NDArray[np.bool_]],
    unused: list[str],
) -> Arrays:
    """Return the data set of all samples that have a label and a modality."""
    unlabelled = joined.absent.get(label, np.zeros(len(joined.ids), np.bool_))
    nothing = np.logical_and.reduce(list(absent.values()))
    rows = np.flatnonzero(~unlabelled & ~nothing)
    if not len(rows):
        why = ": the ids of its files do not match" if joined.absent else ""
        raise UserError(f"{config.root}: no sample has a label and a modality{why}")
    for name, mask in absent.items():
        if mask[rows].all():
            why = ": no other file has the ids of its file" if name in joined.absent else ""
            raise UserError(f"{config.root}: no sample with a label has {name!r}{why}")

    def taken(array: NDArray[Any]) -> NDArray[Any]:
        return array if len(rows) == len(array) else array[rows]

    def column(names: str) -> str | None:
        return joined.column(_split(names))

    classes = joined.others.get("classes", joined.arrays.get("classes"))
    labels, names = labels_of(taken(joined.arrays[label]), classes, joined.places[label])
    split, group = column(config.split), column(config.group)
    kept = {}
    for name, of in views.items():
        stored = {key: taken(array) for key, array in of.stored.items()}
        present = ~absent[name][rows]
        check_finite(taken(of.values), of.place, present=present, numbers=joined.rows[name][rows])
        kept[name] = View(of.modality, taken(of.values), of.place, stored, of.prepare, present)
    dataset = Arrays(
        joined.ids if len(rows) == len(joined.ids) else joined.ids.take(rows),
        labels,
        names,
        kept,
        parts=None if split is None else parts_of(taken(joined.arrays[split]), joined.places[split]),
        groups=None if group is None else [str(name) for name in taken(joined.arrays[group])],
    )
    dataset.notes = [DataError(f"{config.root}: {one} is not used", "not used") for one in unused]
    dataset.dropped = [
        f"{joined.ids[row]} (no {'label' if unlabelled[row] else 'modality'})"
        for row in np.flatnonzero(unlabelled | nothing).tolist()
    ]
    return dataset


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(","))


def _check_rows(root: str, joined: Joined, names: Names) -> None:
    """Refuse a column, a mask or a stored corruption that has another number of rows than there are samples."""
    found = [name for some in names if joined.column(some) is None for name in some]
    found += [PRESENT + name for name in joined.arrays]
    for name in joined.others:
        if name in found or _stored(name, joined.arrays) is not None:
            shape = joined.others[name].shape
            raise UserError(f"{root}: {name} must have {len(joined.ids)} rows like the other arrays, got shape {shape}")


def _stored(name: str, modalities: Collection[str]) -> str | None:
    """Return kind and severity, such as ``gaussian-0.2``, if this array is a stored corruption of a modality."""
    modality, _, text = name.rpartition("@")
    noise = stored_noise(text) if modality in modalities else None
    return None if noise is None or noise[0] not in KINDS else f"{noise[0]}-{noise[1]:g}"


def _widths(joined: Joined, name: str, modality: Modality) -> tuple[int, ...]:
    """Return the widths of the depths of saved features; none if the file has none."""
    key = WIDTHS + name
    widths = joined.others.get(key, joined.arrays.get(key))
    if widths is None:
        return ()
    good = widths.ndim == 1 and widths.dtype.kind in "iu" and (widths > 0).all()
    if not good or modality.kind != "vector" or widths.sum() != modality.shape[0]:
        raise DataError(
            f"{key} must hold positive integers whose sum is the number of values of a row of {name} (a vector), got "
            f"{widths.dtype} of shape {widths.shape} with sum {widths.sum() if good else '?'} for a {modality.summary}",
            "bad array",
        )
    return tuple(map(int, widths))


def _described(joined: Joined, name: str) -> str:
    array = joined.arrays.get(name, joined.others.get(name))
    return f"array {name!r}" if array is None else f"array {name!r} ({array.dtype} of shape {array.shape})"
