"""Documentation of several versions: main, and the newest release of each minor version of cpsc-train.

Usage: site_versions.py TARGET. Each version is built from its own sources, and lists the others; the first page leads
to the newest release, or to main if there is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAIN = "main"
FIRST_PAGE = """<!doctype html>
<meta charset="utf-8"><title>Documentation</title>
<meta http-equiv="refresh" content="0; url={place}/"><a href="{place}/">Documentation</a>
"""


def main(target: Path) -> None:
    """Build every version into a folder of its own below `target`."""
    shutil.rmtree(target, ignore_errors=True)
    places = newest(git("tag", "--list", "cpsc-train-v*").split())
    names = [*places, MAIN]
    for name in names:
        source = ROOT if name == MAIN else target.parent / f"sources-{name}"
        if name != MAIN:
            git("worktree", "add", "--force", "--detach", str(source), places[name])
        try:
            build(source, target / name, names)
        finally:
            if name != MAIN:
                git("worktree", "remove", "--force", str(source))
    (target / "index.html").write_text(FIRST_PAGE.format(place=names[0]), encoding="utf-8")
    (target / ".nojekyll").touch()


def newest(tags: list[str]) -> dict[str, str]:
    """Return the tag of the newest release of each minor version, newest first.

    Examples
    --------
    >>> newest(["cpsc-train-v0.1.0", "cpsc-train-v0.2.0", "cpsc-train-v0.1.10", "cpsc-train-v0.1.9"])
    {'0.2': 'cpsc-train-v0.2.0', '0.1': 'cpsc-train-v0.1.10'}
    """
    versions = sorted((tuple(map(int, re.findall(r"\d+", tag))), tag) for tag in tags)
    latest = {f"{major}.{minor}": tag for (major, minor, _), tag in versions}
    return dict(reversed(latest.items()))


def build(source: Path, target: Path, names: list[str]) -> None:
    """Build the documentation of one version, which imports the packages of its own sources."""
    packages = os.pathsep.join(str(path) for path in sorted(source.glob("packages/*/src")))
    environment = {**os.environ, "PYTHONPATH": packages, "DOCS_VERSIONS": json.dumps(names)}
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source / "docs"), str(target)]
    subprocess.run(command, env=environment, check=True)  # noqa: S603


def git(*arguments: str) -> str:
    """Run git in the repository, and return its output."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603, S607


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
