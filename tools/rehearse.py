"""Rehearsal of a release: all that can be done before anything is published.

Usage: rehearse.py DIST SCRATCH [--beneath PYTHON] [--full] [--tag NAME-vX.Y.Z]. The packages are built twice and
checked; each wheel is then installed in a fresh environment and tried out. With a tag, the files of its package are put
into DIST/release, and its bill of materials into DIST/beside.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import check_distributions
from consumer import PARTS, ROOT, TESTING, Environment, try_out
from distribute import build_twice

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
    for member in members:
        environment = installed(member, dist, scratch, beneath=None if member == "conformal-core" else beneath)
        write_bill(member, environment, dist)
        try:
            if environment.beneath is None:
                environment.install(f"{_file(dist, member, '.whl')}{EXTRAS.get(member, '')}", *TESTING)
            try_out(environment, member, _file(dist, member, ".tar.gz"), scratch / "sdists", full=full)
            if member == "cpsc-train":
                try_pages(environment, scratch)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            problems.append(f"{member}: {error}")
    return problems


def installed(member: str, dist: Path, scratch: Path, *, beneath: str | None) -> Environment:
    """Return a fresh environment with the wheels of a package and of those that it needs, which no index has yet."""
    environment = Environment(scratch / "environments" / member, beneath)
    needed = list(PARTS) if member == "cpsc-train" else sorted({"conformal-core", member})
    environment.install(*(str(_file(dist, name, ".whl")) for name in needed))
    environment.check()
    return environment


def write_bill(member: str, environment: Environment, dist: Path) -> None:
    """Write the bill of materials (CycloneDX) of a package: all that its environment has.

    The version in the project is dynamic, which the bill would lack.
    """
    file = dist / "bills" / f"{member}.cdx.json"
    file.parent.mkdir(exist_ok=True)
    project, version = file.with_suffix(".toml"), _file(dist, member, ".whl").name.split("-")[1]
    text = (_source(member) / "pyproject.toml").read_text(encoding="utf-8")
    project.write_text(text.replace('dynamic = ["version"]', f'version = "{version}"'), encoding="utf-8")
    options = ["--pyproject", str(project), "--mc-type", "library", "--output-reproducible", "--output-file", str(file)]
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *options, str(environment.python)]
    subprocess.run(command, check=True)  # noqa: S603
    project.unlink()


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
