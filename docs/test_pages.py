"""Check that the pages of results are what ``studies/pages.py`` writes, and what it writes about runs."""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.experiments.variants import COLUMNS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "studies"))

import pages  # noqa: E402
from _runs import Runs  # noqa: E402

CONDITIONS = {
    "clean": ("", "clean", ""),
    **{f"a-{kind}@{level}": ("a", kind, str(level)) for kind in ("gaussian", "dropout") for level in (1, 5)},
    "without-a": ("a", "absent", ""),
}


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_what_its_command_writes(name):
    path, page = pages.PAGES[name]
    assert path.read_text("utf-8") == page(), f"run: python studies/pages.py {name}"


def lines(shifts, units=10, spread=0.002):
    """Lines of rows whose accuracy differs from .8 by a shift, paired up to a small spread."""
    rng = np.random.default_rng(0)
    for row, shift in shifts.items():
        for unit in range(units):
            noise = rng.normal() * spread
            for condition, (modality, kind, level) in CONDITIONS.items():
                used = int(kind == "gaussian" and "augmented" in row)
                accuracy = 0.8 + shift + noise - 0.1 * (kind != "clean")
                inference = "trust" if "trust" in row else "plain"
                start = ("handwritten", row, row, inference, unit, 0.25, unit, condition, modality, kind, level, used)
                yield dict(zip(COLUMNS, map(str, (*start, accuracy, 0.8, 0.1, 0.9, 1.5, 2.0)), strict=True))


SHIFTS = {"joint-unimodal": 0.0, "cpsc": 0.0, "tmc": -0.05, "joint-unimodal, augmented": 0.05, "cpsc + trust": 0.01}


def test_claims_are_those_that_intervals_support(tmp_path, monkeypatch):
    with gzip.open(tmp_path / "comparison-handwritten.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines(SHIFTS))
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    text = pages.comparison()
    better, worse = (line for line in text.splitlines() if line.startswith(("- Better than", "- Worse than")))
    assert "joint-unimodal, augmented (+5" in better
    assert "tmc" not in better
    assert "tmc (-5" in worse
    assert "cpsc" not in better + worse
    assert "- 1 of 3 rows do not differ significantly" in text
    assert "10 runs of each row on 10 divisions; test rows redrawn in each division; 5 conditions" in text
    assert "Seen kinds: gaussian; held out: dropout." in text
    assert "| cpsc |" in text.split("Gain of the inference variants")[1]
    assert "Handwritten digits" in pages.readme()
    assert "Handwritten digits" in pages.reproduces()


def test_figures_by_hand():
    runs = Runs(list(lines({"cpsc": 0.0, "b, augmented": 0.0}, units=2, spread=0.0)))
    figures = runs.figures("cpsc")
    assert runs.seen == {"a-gaussian@1", "a-gaussian@5"}
    assert figures["clean"].tolist() == pytest.approx([80, 80])
    assert figures["held out"].tolist() == pytest.approx([70, 70])
    assert figures["all"].tolist() == pytest.approx([72, 72])  # a missing modality is no noise
    assert figures["worst"].tolist() == pytest.approx([70, 70])
    # From 80 at level 0 to 70 at level 1, and 70 from there to 5: (75 + 4 · 70) / 5.
    assert runs.areas("cpsc") == pytest.approx({"a gaussian": 71.0, "a dropout": 71.0})
