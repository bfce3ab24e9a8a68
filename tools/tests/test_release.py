"""Tests of what a rehearsal checks, on distributions made here."""

from __future__ import annotations

import io
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import address
import check_distributions
import consumer
import distribute
import published
import pytest
import rehearse

ROOT = Path(__file__).parents[2]


def metadata(*requirements, readme="x" * 500, licence="BSD-3-Clause"):
    lines = ["Name: conformal-core", f"License-Expression: {licence}", "License-File: LICENSE", "Project-URL: Paper, a"]
    lines += [f"Classifier: Programming Language :: Python :: {one}" for one in check_distributions.PYTHONS]
    return "\n".join([*lines, *(f"Requires-Dist: {one}" for one in requirements), "", readme])


def make_wheel(folder, text, left_out=()):
    info = "conformal_core-0.1.0.dist-info"
    files = {"conformal_core/py.typed": "", f"{info}/licenses/LICENSE": "", "conformal_core/__init__.py": ""}
    path = folder / "conformal_core-0.1.0-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for name, content in (files | {f"{info}/METADATA": text}).items():
            if name not in left_out:
                archive.writestr(name, content)
    return path


def make_sdist(folder, text, left_out=(), more=()):
    names = [*check_distributions.IN_SDIST, "tests/test_a.py", *more]
    with tarfile.open(folder / "conformal_core-0.1.0.tar.gz", "w:gz") as tar:
        for name in ("PKG-INFO", *(name for name in names if name not in left_out)):
            member, content = tarfile.TarInfo(f"conformal_core-0.1.0/{name}"), text.encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "packages/conformal-core"
    (source / "src/conformal_core").mkdir(parents=True)
    (source / "tests").mkdir()
    for name in ("src/conformal_core/__init__.py", "src/conformal_core/py.typed", "tests/test_a.py"):
        (source / name).touch()
    (source / "pyproject.toml").write_text('[project]\nname = "conformal-core"\n', encoding="utf-8")
    return source


def test_complete_distributions_pass(source, tmp_path):
    assert len(check_distributions.package_problems(tmp_path, source)) == 2  # there are none
    text = metadata("numpy>=2", "torch>=2; extra == 'torch'", readme=f"[a](#b) [c](https://d)\n{'x' * 500}")
    make_wheel(tmp_path, text)
    make_sdist(tmp_path, text)
    assert check_distributions.package_problems(tmp_path, source) == []


def test_incomplete_distributions_do_not(source, tmp_path):
    text = metadata("torch>=2", readme="[a](../b.md)", licence="MIT").replace(":: 3.14", ":: 3.9")
    make_wheel(tmp_path, text, left_out=["conformal_core/py.typed"])
    make_sdist(tmp_path, text, left_out=["LICENSE", "tests/test_a.py"])
    problems = {line.partition(": ")[2] for line in check_distributions.package_problems(tmp_path, source)}
    assert problems == {
        "lacks LICENSE",
        "lacks conformal_core/py.typed",
        "lacks tests/test_a.py",
        "lacks the classifier Programming Language :: Python :: 3.14",
        "must have the licence BSD-3-Clause with the file LICENSE",
        "has no README of 500 characters",
        "has a README with a link that an index cannot follow: ../b.md",
        "requires torch",
    }


def test_a_wheel_that_grows_too_large_does_not_pass(source, tmp_path, monkeypatch):
    make_wheel(tmp_path, metadata())
    make_sdist(tmp_path, metadata())
    monkeypatch.setitem(check_distributions.LARGEST, "conformal-core", 1000)
    problem = check_distributions.package_problems(tmp_path, source)
    assert len(problem) == 1
    assert "must have less than 1000 bytes, has " in problem[0]


def test_a_release_needs_the_states_that_it_saves(source, tmp_path):
    """Those of every version, where a package saves any."""
    make_wheel(tmp_path, metadata())
    (source / "CHANGELOG.md").write_text("## 0.2.0 (2026-12-02)\n\n## 0.1.0 (2026-12-01)\n", encoding="utf-8")
    files = ["tests/test_released.py", "tests/released/0.1.0.npz"]
    make_sdist(tmp_path, metadata(), more=files)
    (problem,) = check_distributions.package_problems(tmp_path, source)
    assert "lacks what 0.2.0 saved, tests/released/0.2.0.*: run nox -s states -- conformal-core" in problem
    make_sdist(tmp_path, metadata(), more=[*files, "tests/released/0.2.0.zip"])
    assert check_distributions.package_problems(tmp_path, source) == []


def test_files_that_differ_are_named(tmp_path):
    for name, content in (("one/a", "1"), ("one/b", "2"), ("two/a", "1"), ("two/b", "3"), ("two/c", "4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert distribute.different(tmp_path / "one", tmp_path / "two") == ["b", "c"]


def test_only_tracked_files_are_built(tmp_path):
    untracked = ROOT / "packages/conformal-core/untracked.tmp"
    untracked.touch()
    try:
        distribute.copy_tracked("conformal-core", tmp_path)
    finally:
        untracked.unlink()
    assert (tmp_path / "src/conformal_core/__init__.py").is_file()
    assert not (tmp_path / untracked.name).exists()


def test_a_package_that_is_imported_from_elsewhere_is_refused(tmp_path):
    environment = consumer.Environment(tmp_path / "environment", beneath=sys.executable)
    with pytest.raises(RuntimeError, match="packaging must be imported from"):
        consumer.try_out(environment, "packaging", tmp_path / "none.tar.gz", tmp_path)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "packages/base"
    (folder / "src/base").mkdir(parents=True)
    (folder / "src/base/__about__.py").write_text('__version__ = "0.2.0"\n', encoding="utf-8")
    (folder / "CHANGELOG.md").write_text("## 0.2.0 (2026-12-01)\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text('[project.urls]\nPaper = "a"\n\n[b]\n', encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text("type: software\nlicense: MIT\n", encoding="utf-8")
    return tmp_path


def test_a_tag_needs_a_version_notes_and_an_address(tree):
    assert rehearse.tag_problems("bse-v0.2.0", tree) == ["a tag must be PACKAGE-vX.Y.Z, got bse-v0.2.0"]
    assert len(rehearse.tag_problems("base-v0.3.0", tree)) == 3
    assert rehearse.tag_problems("base-v0.2.0", tree) == [
        "base-v0.2.0: [project.urls] must have the address of the repository: run nox -s address first"
    ]
    assert address.main("https://github.com/Some/thing", tree) == 0
    assert rehearse.tag_problems("base-v0.2.0", tree) == []


def test_an_address_is_written_once(tree, capsys):
    for name in ("first", "thing.git"):
        assert address.main(f"https://github.com/Some/{name}", tree) == 0
    project = tomllib.loads((tree / "packages/base/pyproject.toml").read_text("utf-8"))
    assert project["project"]["urls"] == {
        "Source": "https://github.com/Some/thing",
        "Documentation": "https://some.github.io/thing/",
        "Changelog": "https://github.com/Some/thing/blob/main/packages/base/CHANGELOG.md",
        "Issues": "https://github.com/Some/thing/issues",
        "Paper": "a",
    }
    assert 'repository-code: "https://github.com/Some/thing"\nlicense: MIT' in (tree / "CITATION.cff").read_text(
        "utf-8"
    )
    assert address.main("github.com/a", tree) == 2
    assert "must be https://github.com/OWNER/NAME, got github.com/a" in capsys.readouterr().err


def test_published_files_that_differ_are_refused(tmp_path, monkeypatch, capsys):
    released = tmp_path / "released"
    released.mkdir()
    make_wheel(released, metadata())

    def download(_requirement, _kind, folder, _index):
        make_wheel(folder, metadata("six"))
        return True

    monkeypatch.setattr(published, "downloaded", download)
    assert published.main([str(tmp_path / "scratch"), "conformal-core-v0.1.0", str(released)]) == 1
    assert "differs from what was rehearsed: conformal_core-0.1.0-py3-none-any.whl" in capsys.readouterr().out
