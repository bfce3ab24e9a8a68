"""Tests of the tools, on a small tree of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import bump
import check_coverage
import check_language
import check_size
import pytest


@pytest.fixture
def tree(tmp_path):
    for name, needs in (("base", ""), ("above", '"base>=0.1,<0.2"')):
        folder = tmp_path / "packages" / name
        (folder / "src" / name).mkdir(parents=True)
        (folder / "src" / name / "__about__.py").write_text('__version__ = "0.1.3"\n', encoding="utf-8")
        (folder / "CHANGELOG.md").write_text("# Changes\n\n## 0.1.3 (unreleased)\n\n- New.\n", encoding="utf-8")
        (folder / "pyproject.toml").write_text(f"dependencies = [{needs}]\n", encoding="utf-8")
    return tmp_path


def test_a_release_that_may_break_users_widens_the_ranges(tree, capsys):
    assert bump.main("base", "minor", tree) == 0
    assert (tree / "packages/base/src/base/__about__.py").read_text() == '__version__ = "0.2.0"\n'
    assert "## 0.2.0 (20" in (tree / "packages/base/CHANGELOG.md").read_text()
    assert '"base>=0.1,<0.3"' in (tree / "packages/above/pyproject.toml").read_text()
    printed = capsys.readouterr().out
    assert "git push origin HEAD base-v0.2.0" in printed
    assert "states" not in printed


def test_a_patch_changes_no_range(tree, capsys):
    (tree / "packages/base/tests").mkdir()
    (tree / "packages/base/tests/test_released.py").touch()
    assert bump.main("base", "patch", tree) == 0
    assert '"base>=0.1,<0.2"' in (tree / "packages/above/pyproject.toml").read_text()
    printed = capsys.readouterr().out
    assert "widened" not in printed
    assert "next: python -m nox -s states -- base" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bse", "minor"), "package must be one of above, base, got bse"),
        (("base", "larger"), "version must be major, minor, patch or X.Y.Z, got larger"),
        (("base", "0.1.0"), "version must not be below 0.1.3, got 0.1.0"),
    ],
)
def test_mistakes(arguments, said, tree, capsys):
    assert bump.main(*arguments, tree) == 2
    assert said in capsys.readouterr().err
    assert (tree / "packages/base/src/base/__about__.py").read_text() == '__version__ = "0.1.3"\n'


def test_a_release_without_notes_for_users_is_refused(tree, capsys):
    bump.main("base", "patch", tree)
    assert bump.main("base", "patch", tree) == 2
    assert "base/changes: has no notes: describe the changes" in capsys.readouterr().err


def test_notes_beside_an_unreleased_section_are_refused(tree, capsys):
    add_note(tree)
    assert bump.main("base", "patch", tree) == 2
    assert "+new.added.md: must be part of the section (unreleased)" in capsys.readouterr().err


def test_notes_become_a_section(tree):
    pytest.importorskip("towncrier")
    changelog = tree / "packages/base/CHANGELOG.md"
    changelog.write_text("# Changes\n\n<!-- New versions are inserted here. -->\n\n## 0.1.3 (2026-01-01)\n", "utf-8")
    shutil.copy(Path(__file__).parents[2] / "pyproject.toml", tree)
    note = add_note(tree)
    assert bump.main("base", "minor", tree) == 0
    text = changelog.read_text("utf-8")
    assert re.search(r"## 0\.2\.0 \(20\d\d-\d\d-\d\d\)\n\n### Added\n\n- A `score`\.\n+## 0\.1\.3", text)
    assert not note.exists()


def add_note(tree):
    note = tree / "packages/base/changes/+new.added.md"
    note.parent.mkdir()
    note.write_text("A `score`.\n", encoding="utf-8")
    return note


def test_too_few_branches(tmp_path, capsys):
    def files(train):
        share = dict.fromkeys(check_coverage.LEAST, 96) | {"cpsc_train": train}
        return {
            f"packages/x/src/{package}/a.py": {
                "summary": {"covered_branches": n, "num_branches": 100, "covered_lines": 1, "num_statements": 1}
            }
            for package, n in share.items()
        }

    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": files(86)}), encoding="utf-8")
    assert check_coverage.main(report) == 0
    report.write_text(json.dumps({"files": files(84)}), encoding="utf-8")
    assert check_coverage.main(report) == 1
    assert "cpsc_train: 84.0 % of 100 branches (at least 85)" in capsys.readouterr().out


def test_phrases_to_avoid_are_found_as_words_and_in_any_case():
    text = "Mended by Nought.\nCommended: a noughty word, turned upside down.\nit is turned down for ever"
    assert check_language.findings("docs/a.md", text) == [
        "docs/a.md:1: 'Mended': write fixed",
        "docs/a.md:1: 'Nought': write zero",
        "docs/a.md:3: 'turned down': write down-weighted",
        "docs/a.md:3: 'for ever': write indefinitely",
    ]


def test_errors_and_comments_are_checked_too():
    assert check_language.findings("a.py", 'raise ValueError("our fault")  # for nothing') == [
        "a.py:1: 'our fault': write internal error",
        "a.py:1: 'for nothing': write for free",
    ]


def test_a_long_source_file_is_named(tmp_path):
    folder = tmp_path / "packages/base/src/base"
    folder.mkdir(parents=True)
    (folder / "fine.py").write_text("1\n" * check_size.MOST, encoding="utf-8")
    assert check_size.findings(tmp_path) == []
    (folder / "long.py").write_text("1\n" * 351, encoding="utf-8")
    assert check_size.findings(tmp_path) == ["packages/base/src/base/long.py: must have at most 350 lines, got 351"]


SECRETS = {
    "private key": r"-----BEGIN (?:RSA |EC |OPENSSH |DSA |PGP )?PRIVATE KEY",
    "token of a cloud": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b",
    "token of a forge": r"\b(?:ghp|gho|ghs|ghu|github_pat|glpat|hf|pypi)[-_][0-9A-Za-z_-]{20,}\b",
    "token of a chat": r"\bxox[abprs]-[0-9A-Za-z-]{10,}\b",
    "password in an address": r"\b[a-z]+://[^/\s:@'\"{}]+:(?!secret@)[^/\s:@'\"{}]{4,}@[a-z]",  # tests write `secret`
    "assigned secret": r"(?i)\b(?:password|passwd|secret|api_?key|token)\s*=\s*['\"][^'\"\s]{12,}['\"]",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_was_ever_committed(name):
    root, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (root / ".git").exists():
        pytest.skip("there is no history")
    command = [git, "log", "-p", "--all", "--no-color", "--text", "--", ".", ":!*.npz"]
    log = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode("utf-8", "replace")
    added = [line[1:] for line in log.splitlines() if line.startswith("+") and 'r"' not in line]
    assert [line for line in added if re.search(SECRETS[name], line) and "re.compile" not in line] == []
