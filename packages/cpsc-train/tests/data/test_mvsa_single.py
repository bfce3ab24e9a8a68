"""MVSA-Single: encodings of texts, and rows whose labels differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data import SplitConfig, Splits
from cpsc_train.data.adapters.mvsa_single import CLASSES, MVSASingleConfig
from cpsc_train.errors import UserError

REAL = Path(__file__).parents[4].parent / "shared" / "data" / "mvsa-single"
LISTS = ("train.jsonl", "dev.jsonl", "test.jsonl")


@pytest.fixture
def both(tmp_path, layouts):
    """The distribution, and lists of its 30 rows that agree: 24, 3 and 3."""
    root = layouts.mvsa_original(tmp_path)
    for place, name in enumerate(LISTS):
        rows = []
        for label, kind in enumerate(CLASSES):
            numbers = range(10 * label + 1, 10 * label + 11)
            rows += [
                {"id": str(number), "label": kind, "text": f"no {number}", "img": f"data/{number}.jpg"}
                for number in (numbers[:8], numbers[8:9], numbers[9:])[place]
            ]
        (root / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return root


def opened(root, **options):
    return MVSASingleConfig(root=str(root), size=32, tokens=8, **options).open()


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("naïve ☕".encode(), "naïve ☕", None),
        (b"\xef\xbb\xbfmarked", "marked", None),
        ("今天天气很好".encode("gb18030"), "今天天气很好", "gb18030"),
        ("it’s … 𠀀".encode("gb18030"), "it’s … 𠀀", "gb18030"),  # of two and of four bytes
        ("une café, ça".encode("cp1252"), "une café, ça", "cp1252"),
        (b"\x81 \x8d", "\x81 \x8d", "latin-1"),
    ],
)
def test_encodings(tmp_path, layouts, content, text, note):
    root = layouts.mvsa_original(tmp_path)
    (root / "data" / "1.txt").write_bytes(content)
    dataset = opened(root)
    assert dataset.read("text", np.array([0, 1])).tolist() == [text, "café number 2"]
    notes = [str(one).partition("data: ")[2] for one in dataset.notes if one.kind == "bad encoding"]
    assert notes == ([] if note is None else [f"1 texts are not UTF-8 and are read as {note}"])


def test_rows_that_differ_are_added_to_the_training_rows_of_the_lists(both):
    listed, merged = opened(both), opened(both, labels="merge")
    assert (len(listed), listed.labels_by_modality) == (30, {})
    assert len(merged) == 34
    for part in ("validation", "test"):
        assert [merged.ids[row] for row in merged.parts[part]] == [listed.ids[row] for row in listed.parts[part]]
    added = [row for row in merged.parts["train"] if int(merged.ids[row]) > 30]
    assert [merged.ids[row] for row in added] == ["32", "33", "35", "36"]
    assert [CLASSES[merged.labels[row]] for row in added] == ["positive", "negative"] * 2
    assert len(merged.parts["train"]) == 28
    assert len(merged.dropped) == 2  # positive and negative
    assert merged.read("text", np.array([0, added[0]])).tolist() == ["no 1", "café number 32"]
    assert Splits.of(merged, SplitConfig()).sizes["test"] == 3


def test_both_labels_of_a_row_are_known(both):
    merged = opened(both, labels="merge")
    given = {name: [CLASSES[label] for label in labels[-4:]] for name, labels in merged.labels_by_modality.items()}
    assert given == {
        "text": ["neutral", "negative", "neutral", "negative"],
        "image": ["positive", "neutral", "positive", "neutral"],
    }
    for labels in merged.labels_by_modality.values():
        np.testing.assert_array_equal(labels[:30], merged.labels[:30])
    (both / "skip.tsv").write_text("1\tbad\n", encoding="utf-8")
    kept = opened(both, labels="merge", skip=str(both / "skip.tsv"))
    np.testing.assert_array_equal(kept.labels_by_modality["text"], merged.labels_by_modality["text"][1:])
    for name in LISTS:
        (both / name).unlink()
    alone = opened(both, labels="merge")
    np.testing.assert_array_equal(alone.labels_by_modality["text"], merged.labels_by_modality["text"][np.argsort(
        [int(name) for name in merged.ids])])  # fmt: skip


def test_merging_needs_both_labels(both):
    (both / "labelResultAll.txt").unlink()
    with pytest.raises(UserError, match=r"data\.labels = merge needs .*labelResultAll\.txt beside the lists"):
        opened(both, labels="merge")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real posts are not beside this copy")
def test_the_real_posts():
    pytest.importorskip("PIL", reason="Pillow reads the images")
    merged = opened(REAL, labels="merge")
    assert {part: len(rows) for part, rows in merged.parts.items()} == {"train": 3474, "validation": 518, "test": 519}
    assert len(merged.dropped) == 358
    tested = merged.parts["test"]
    for labels in merged.labels_by_modality.values():
        np.testing.assert_array_equal(labels[tested], merged.labels[tested])
