"""Rehearsal of a release: all that can be done before anything is published.

Usage: rehearse.py DIST SCRATCH [--beneath PYTHON] [--full] [--tag NAME-vX.Y.Z]. The packages are built twice, checked
and served by a local index; each is then installed from there in a fresh environment and tried out. With a tag, the
files of its package are put into DIST/release, and its bill of materials and conda recipe into DIST/beside.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import check_distributions
import conda_recipe
from bill import bill_problems, write_bill
from consumer import PARTS, ROOT, TESTING, Environment, try_out
from distribute import build_twice
from index import serving

EXTRAS = {"cpsc-train": "[all]"}
"""Extras that the pages need."""
PAGES = ("README.md", "packages/cpsc-train/README.md", "docs/test_code.py", "pyproject.toml")


def main(arguments: list[str]) -> int:
    """Rehearse; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="folder of the files, which is emptied")
    parser.add_argument("scratch", type=Path, help="folder of sources and environments, which is emptied")
    parser.add_argument("--beneath", help="interpreter whose torch is used instead of installing it again")
    parser.add_argument("--full", action="store_true", help="install all dependencies, and run all tests")
    parser.add_argument("--tag", help="what is released")
    options = parser.parse_args(arguments)
    problems = tag_problems(options.tag) if options.tag else []
    for folder in (options.dist, options.scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if not problems:
        dist, scratch = options.dist.resolve(), options.scratch.resolve()
        problems = rehearse(dist, scratch, beneath=None if options.full else options.beneath, full=options.full)
        if options.tag and not problems:
            collect(options.tag.rpartition("-v")[0], dist)
    print("\n".join(problems) or "the rehearsal found no problem")  # noqa: T201
    return int(bool(problems))


def rehearse(dist: Path, scratch: Path, *, beneath: str | None, full: bool) -> list[str]:
    """Build, check, install and try out all packages; return the problems."""
    members = list(PARTS)
    changed = build_twice(members, dist, scratch)
    problems = [f"{name}: differs between two builds of the same sources" for name in changed]
    problems += [one for member in members for one in check_distributions.package_problems(dist, _source(member))]
    if problems:
        return problems
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())], check=True)  # noqa: S603
    with serving(dist) as index:
        for member in members:
            environment = installed(member, scratch, index, beneath=None if member == "conformal-core" else beneath)
            problems += bill_of(member, environment, dist)
            try:
                if environment.beneath is None:
                    environment.install("--index-url", index, f"{member}{EXTRAS.get(member, '')}", *TESTING)
                try_out(environment, member, _file(dist, member, ".tar.gz"), scratch / "sdists", full=full)
                if member == "cpsc-train":
                    try_pages(environment, scratch)
            except (subprocess.CalledProcessError, RuntimeError) as error:
                problems.append(f"{member}: {error}")
    return problems


def installed(member: str, scratch: Path, index: str, *, beneath: str | None) -> Environment:
    """Return a fresh environment with a package from an index, and with the other packages that it needs."""
    environment = Environment(scratch / "environments" / member, beneath)
    needed = [member]
    if beneath is not None:  # pip then leaves out dependencies
        needed = list(PARTS) if member == "cpsc-train" else ["conformal-core", member]
    environment.install("--index-url", index, *needed)
    environment.check()
    return environment


def bill_of(member: str, environment: Environment, dist: Path) -> list[str]:
    """Write the bill of materials of a package, which holds all that its environment has; return its problems."""
    file = dist / "bills" / f"{member}.cdx.json"
    file.parent.mkdir(exist_ok=True)
    wheel = _file(dist, member, ".whl")
    write_bill(environment.python, _source(member) / "pyproject.toml", wheel.name.split("-")[1], file)
    return bill_problems(file, wheel)


def try_pages(environment: Environment, scratch: Path) -> None:
    """Run the code of the README of the repository, and examples, in a copy outside the tree."""
    copy = scratch / "pages"
    shutil.copytree(ROOT / "examples", copy / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PAGES:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    tests = ["docs/test_code.py", "examples/tests/test_examples.py"]
    environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", *tests, folder=copy)


def collect(member: str, dist: Path) -> None:
    """Put what is published of a package into DIST/release, and what goes with it into DIST/beside."""
    release, beside = dist / "release", dist / "beside"
    for folder in (release, beside):
        folder.mkdir()
    for ending in (".whl", ".tar.gz"):
        shutil.copy(_file(dist, member, ending), release)
    shutil.copy(dist / "bills" / f"{member}.cdx.json", beside / "sbom.cdx.json")
    (beside / "recipe.yaml").write_text(conda_recipe.recipe(_file(dist, member, ".tar.gz")), encoding="utf-8")


def tag_problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return why a tag cannot be released."""
    member, _, version = tag.rpartition("-v")
    folder = root / "packages" / member
    if not member or not folder.is_dir():
        return [f"a tag must be PACKAGE-vX.Y.Z, got {tag}"]
    problems = []
    about = next(folder.glob("src/*/__about__.py")).read_text(encoding="utf-8")
    if f'__version__ = "{version}"' not in about:
        problems.append(f"{tag}: the version of {member} must be {version}: run nox -s bump first")
    changes = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changes, flags=re.MULTILINE):
        problems.append(f"{tag}: CHANGELOG.md must have a heading '## {version} (date)': run nox -s bump first")
    if "\nSource = " not in (folder / "pyproject.toml").read_text(encoding="utf-8"):
        problems.append(f"{tag}: [project.urls] must have the address of the repository: run nox -s address first")
    return problems


def _source(member: str) -> Path:
    return ROOT / "packages" / member


def _file(dist: Path, member: str, ending: str) -> Path:
    return next(dist.glob(f"{member.replace('-', '_')}-*{ending}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
