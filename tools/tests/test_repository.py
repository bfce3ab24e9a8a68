"""Tests of the files that the repository shows to authors, assistants and archives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SESSIONS = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), flags=re.MULTILINE))
PLACES = re.compile(r"`((?:packages|docs|tools|studies|\.github)[\w./-]*)`")


@pytest.mark.parametrize("name", ["AGENTS.md", "CONTRIBUTING.md"])
def test_sessions_and_places_exist(name):
    text = (ROOT / name).read_text("utf-8")
    commands = re.findall(r"nox -s ([^`#\n]*)", text)
    words = {word for one in commands for word in re.findall(r"[a-z]+", re.sub(r" -- .*|\(.*\)|\".*\"", "", one))}
    assert words <= SESSIONS
    assert [place for place in PLACES.findall(text) if "NAME" not in place and not (ROOT / place).exists()] == []


def test_scripts_that_jobs_run_exist():
    files = [ROOT / "noxfile.py", *(ROOT / ".github/workflows").glob("*.yml")]
    named = {name for file in files for name in re.findall(r"\w+/[\w./-]+\.py\b", file.read_text("utf-8"))}
    assert "tools/mutants.py" in named
    assert [name for name in sorted(named) if not (ROOT / name.removeprefix("./")).exists()] == []


def test_the_lock_holds_what_the_nightly_tests_need():
    text = (ROOT / "noxfile.py").read_text("utf-8")
    needed = re.findall(r'"([\w-]+)', text[text.index("NIGHTLY = ") :].partition("\n")[0])
    locked = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), flags=re.MULTILINE)
    assert needed
    assert set(needed) <= set(locked)


def test_the_page_for_assistants_is_short():
    assert len((ROOT / "AGENTS.md").read_text("utf-8").splitlines()) <= 60


def test_the_paper_has_its_length_and_every_citation_its_entry():
    head, _, text = (ROOT / "paper/paper.md").read_text("utf-8").partition("# Summary")
    assert 250 <= len(text.split()) <= 1000
    assert re.search(r"^date: \d+ \w+ \d{4}$", head, flags=re.MULTILINE)
    entries = re.findall(r"^@\w+\{([\w-]+),", (ROOT / "paper/paper.bib").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(entries) == sorted(set(re.findall(r"@([\w-]+)", text)))


def test_the_citation_names_no_version():
    """Zenodo reads this file, and takes the tag as the version of the package that is released."""
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert "version" not in citation
    assert {"abstract", "authors", "license", "title", "type"} <= citation.keys()
