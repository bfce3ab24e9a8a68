"""Make a release of one package: its version, its changelog, and the ranges of its dependents.

Usage: bump.py PACKAGE (major|minor|patch|VERSION). The notes in packages/PACKAGE/changes/ become a section of its
changelog. Those of the first version are already there, below a heading with (unreleased), which gets its date. Nothing
is committed; the next commands are printed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("major", "minor", "patch")
VERSION = r"\d+\.\d+\.\d+"
UNRELEASED = re.compile(r"## .*\(unreleased\)")


def main(package: str, wish: str, root: Path = ROOT) -> int:
    """Change the files, print the next commands, and return the exit code."""
    folder = root / "packages" / package
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in (root / "packages").iterdir()))
        return _complain(f"package must be one of {known}, got {package}")
    about = next(folder.glob("src/*/__about__.py"))
    match = re.search(rf'__version__ = "({VERSION})"', about.read_text(encoding="utf-8"))
    if match is None:
        return _complain(f"{about}: must contain a version X.Y.Z")
    old = match[1]
    if wish not in PARTS and not re.fullmatch(VERSION, wish):
        return _complain(f"version must be major, minor, patch or X.Y.Z, got {wish}")
    if problem := notes_problem(folder):
        return _complain(problem)
    new = raised(old, wish)
    if _numbers(new) < _numbers(old):
        return _complain(f"version must not be below {old}, got {new}")
    today = datetime.now(tz=UTC).date().isoformat()
    gather(root, folder, new, today)
    about.write_text(about.read_text(encoding="utf-8").replace(f'"{old}"', f'"{new}"'), encoding="utf-8")
    changed = widened(root, package, new)
    print(f"{package} {old} → {new}")  # noqa: T201
    for project in changed:
        print(f"widened the range in {project.relative_to(root)}: run its tests at both ends")  # noqa: T201
    if (folder / "tests/test_released.py").exists():
        print(f"next: python -m nox -s states -- {package}; git add packages/{package}/tests/released")  # noqa: T201
    tag = f"{package}-v{new}"
    print(f"then: python -m nox -s rehearsal; git commit --all; git tag {tag}; git push origin HEAD {tag}")  # noqa: T201
    return 0


def notes_problem(folder: Path) -> str | None:
    """Return what is wrong with the notes of a package for its users, or None."""
    notes = sorted(folder.glob("changes/*.*.md"))
    if UNRELEASED.search((folder / "CHANGELOG.md").read_text(encoding="utf-8")):
        return f"{notes[0]}: must be part of the section (unreleased) of CHANGELOG.md: move it there" if notes else None
    return None if notes else f"{folder / 'changes'}: has no notes: describe the changes for users first"


def gather(root: Path, folder: Path, version: str, date: str) -> None:
    """Turn the notes of a package into a section of its changelog, or date the section that is there."""
    changelog = folder / "CHANGELOG.md"
    text, dated = UNRELEASED.subn(f"## {version} ({date})", changelog.read_text(encoding="utf-8"), count=1)
    if dated:
        changelog.write_text(text, encoding="utf-8")
        return
    options = ["--config", str(root / "pyproject.toml"), "--dir", str(folder), "--version", version, "--date", date]
    subprocess.run([sys.executable, "-m", "towncrier", "build", "--yes", *options], check=True)  # noqa: S603


def raised(version: str, wish: str) -> str:
    """Return the next version, with the part `wish` raised, or `wish` itself.

    Examples
    --------
    >>> raised("0.4.2", "minor"), raised("0.4.2", "patch"), raised("0.4.2", "1.0.0")
    ('0.5.0', '0.4.3', '1.0.0')
    """
    if wish not in PARTS:
        return wish
    place = PARTS.index(wish)
    numbers = list(_numbers(version))
    numbers[place:] = [numbers[place] + 1, *([0] * (2 - place))]
    return ".".join(map(str, numbers))


def ceiling(version: str) -> str:
    """Return the first version that may break users of `version`: the next minor if it is 0.y, else the next major.

    Examples
    --------
    >>> ceiling("0.4.2"), ceiling("2.1.0")
    ('0.5', '3')
    """
    major, minor, _ = _numbers(version)
    return f"0.{minor + 1}" if major == 0 else str(major + 1)


def widened(root: Path, package: str, version: str) -> list[Path]:
    """Widen the ranges of the dependents of `package` to `version`; return the changed files."""
    changed = []
    for project in sorted(root.glob("packages/*/pyproject.toml")):
        text = project.read_text(encoding="utf-8")
        new = re.sub(rf'"({package}>=[\d.]+,<)[\d.]+"', rf'"\g<1>{ceiling(version)}"', text)
        if new != text:
            project.write_text(new, encoding="utf-8")
            changed.append(project)
    return changed


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def _complain(text: str) -> int:
    print(f"bump: error: {text}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(_complain("usage: bump.py PACKAGE (major|minor|patch|X.Y.Z)"))
    sys.exit(main(*sys.argv[1:]))
