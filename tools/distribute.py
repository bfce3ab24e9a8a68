"""Building of sdists and wheels whose bytes depend on the tracked sources alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def build_twice(members: list[str], dist: Path, scratch: Path) -> list[str]:
    """Build packages into `dist`, and again from a copy elsewhere; return the files that differ.

    Only tracked files are built. The time of the last commit is the time of every file in the archives.
    """
    epoch = _git("log", "-1", "--format=%ct").strip()
    second = scratch / "second"
    for number, target in enumerate((dist, second)):
        for member in members:
            source = scratch / f"sources-{number}" / member
            copy_tracked(member, source)
            command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)]
            environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    return different(dist, second)


def copy_tracked(member: str, target: Path) -> None:
    """Copy the tracked files of a package."""
    source = ROOT / "packages" / member
    for name in _git("ls-files", "-z", f"packages/{member}").split("\0"):
        if (ROOT / name).is_file():
            place = target / (ROOT / name).relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place)


def different(first: Path, second: Path) -> list[str]:
    """Return the names of files that are not in both folders with the same bytes."""
    one, other = digests(first), digests(second)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder."""
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise RuntimeError("git must be installed: it lists the files to build")
    return subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
