"""Checks of wheels and sdists: contents, metadata and requirements."""

from __future__ import annotations

import re
import tarfile
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RELATIVE = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)")
"""Target of a Markdown link that leads nowhere on a package index."""
LARGEST = {"conformal-core": 150_000}
"""Bytes that a wheel must stay below."""
RELEASED = re.compile(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", re.MULTILINE)
"""Heading of a released version in a changelog."""
IN_SDIST = ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")


def package_problems(dist: Path, source: Path) -> list[str]:
    """Return what is wrong with the distributions of a package, whose sources are in `source`."""
    name = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    found = []
    for pattern, check in (("-*.whl", wheel_problems), ("-*.tar.gz", sdist_problems)):
        files = list(dist.glob(name.replace("-", "_") + pattern))
        if len(files) != 1:
            found.append(f"{name}: expected one file {pattern[1:]} in {dist}, found {len(files)}")
            continue
        found += [f"{files[0].name}: {problem}" for problem in check(files[0], name, source)]
    return found


def wheel_problems(wheel: Path, name: str, source: Path) -> list[str]:
    """Return what is wrong with a wheel."""
    module = name.replace("-", "_")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(path for path in names if path.endswith(".dist-info/METADATA")).partition("/")[0]
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    problems = [f"lacks {path}" for path in (f"{module}/py.typed", f"{info}/licenses/LICENSE") if path not in names]
    expected = {path.relative_to(source / "src").as_posix() for path in (source / "src").rglob("*") if path.is_file()}
    expected = {path for path in expected if "__pycache__" not in path}
    problems += [f"lacks {path}" for path in sorted(expected - names)]
    problems += [f"holds {path}" for path in sorted(names) if not path.startswith((f"{module}/", f"{info}/"))]
    size, limit = wheel.stat().st_size, LARGEST.get(name)
    if limit is not None and size >= limit:
        problems.append(f"must have less than {limit} bytes, has {size}: see which modules grew")
    return problems + metadata_problems(metadata, name)


def sdist_problems(sdist: Path, name: str, source: Path) -> list[str]:
    """Return what is wrong with an sdist, from which distributors of other systems build and test."""
    with tarfile.open(sdist) as archive:
        paths = archive.getnames()
        root = paths[0].partition("/")[0]
        file = archive.extractfile(f"{root}/PKG-INFO")
        metadata = Parser().parsestr("" if file is None else file.read().decode())
    kept = {path.partition("/")[2] for path in paths}
    tests = [path.relative_to(source).as_posix() for path in source.glob("tests/**/*.py")]
    problems = [f"lacks {path}" for path in sorted({*IN_SDIST, *tests} - kept)]
    if "tests/test_released.py" in kept:
        saved = {Path(path).stem for path in kept if path.startswith("tests/released/")}
        released = RELEASED.findall((source / "CHANGELOG.md").read_text(encoding="utf-8"))
        problems += [
            f"lacks what {version} saved, tests/released/{version}.*: run nox -s states -- {name} and git add it"
            for version in released
            if version not in saved
        ]
    return problems + metadata_problems(metadata, name)


def metadata_problems(metadata: Message, name: str) -> list[str]:
    """Return what is wrong with the metadata that a package index shows."""
    classifiers = metadata.get_all("Classifier", [])
    wanted = [f"Programming Language :: Python :: {version}" for version in PYTHONS]
    problems = [f"lacks the classifier {one}" for one in wanted if one not in classifiers]
    if metadata["License-Expression"] != "BSD-3-Clause" or metadata.get_all("License-File") != ["LICENSE"]:
        problems.append("must have the licence BSD-3-Clause with the file LICENSE")
    if not metadata.get_all("Project-URL"):
        problems.append("has no addresses in [project.urls]")
    readme = str(metadata.get_payload())
    if len(readme) < 500:
        problems.append("has no README of 500 characters")
    prose = re.sub(r"^```.*?^```", "", readme, flags=re.DOTALL | re.MULTILINE)
    problems += [f"has a README with a link that an index cannot follow: {link}" for link in RELATIVE.findall(prose)]
    required = [requirement.lower() for requirement in metadata.get_all("Requires-Dist", [])]
    if name == "conformal-core" and any(one.startswith("torch") and "extra ==" not in one for one in required):
        problems.append("requires torch")
    return problems
