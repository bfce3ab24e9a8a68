"""A table of samples made of the embedded digits: PNG images, descriptions, and Fourier coefficients."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOLES = {"zero": "one hole", "four": "a corner", "six": "a hole below", "eight": "two holes", "nine": "a hole above"}


def digits(folder: Path, rows: int) -> list[dict[str, str]]:
    """Write images below a folder, and return a row for each: label, image, note and shape."""
    from PIL import Image  # noqa: PLC0415  # an extra

    with np.load(str(files("cpsc_train").joinpath("data/embedded/handwritten.npz"))) as data:
        chosen = np.random.default_rng(0).permutation(len(data["label"]))[:rows]
        labels, pixels, shapes = (data[name][chosen] for name in ("label", "pix", "fou"))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = []
    for row, (label, image, shape) in enumerate(zip(labels, pixels, shapes, strict=True)):
        name = NAMES[label]
        grey = (image.reshape(16, 15) * 42).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{row}.png")
        note = f"a digit with {HOLES.get(name, 'no hole')}, written by hand as number {row}"
        numbers = " ".join(f"{value:.4f}" for value in shape[:20])
        table.append({"label": name, "image": f"images/{row}.png", "note": note, "shape": numbers})
    return table


def write_table(path: Path, rows: list[dict[str, str]], **columns: list[str]) -> Path:
    """Write rows, with further or other columns, as a .csv or .tsv file."""
    table: list[Mapping[str, str]] = [
        {**row, **{name: cells[number] for name, cells in columns.items()}} for number, row in enumerate(rows)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(table)
    return path
