"""Check of a published release: the files are those that were rehearsed, and they install and work.

Usage: published.py SCRATCH NAME-vX.Y.Z RELEASED [--index ADDRESS]. RELEASED is the folder of the rehearsed files. All
other packages come from PyPI, so that nobody can put one in their place on another index.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from consumer import TESTING, Environment, try_out
from distribute import different

PYPI = "https://pypi.org/simple/"

PAUSES = (10, 20, 40, 80, 160, 320)
"""Seconds before each further attempt, because an index takes minutes to show new files."""


def main(arguments: list[str]) -> int:
    """Download, compare, install and try out; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder of the environment, which is emptied")
    parser.add_argument("tag", help="NAME-vX.Y.Z")
    parser.add_argument("released", type=Path, help="folder with the files that were rehearsed")
    parser.add_argument("--index", default=PYPI, help="address of the index")
    options = parser.parse_args(arguments)
    member, _, version = options.tag.rpartition("-v")
    scratch = options.scratch.resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    downloads = scratch / "downloads"
    downloads.mkdir(parents=True)
    for kind in ("--only-binary", "--no-binary"):
        if not downloaded(f"{member}=={version}", kind, downloads, options.index):
            print(f"{options.index}: must have {member} {version}, got no file of it")  # noqa: T201
            return 1
    if changed := different(options.released, downloads):
        print(f"{options.index}: differs from what was rehearsed: {', '.join(changed)}")  # noqa: T201
        return 1
    environment = Environment(scratch / "environment")
    environment.install(str(next(downloads.glob("*.whl"))), *TESTING)
    environment.check()
    try_out(environment, member, next(downloads.glob("*.tar.gz")), scratch)
    print(f"{options.index}: {member} {version} is what was rehearsed, and works")  # noqa: T201
    return 0


def downloaded(requirement: str, kind: str, folder: Path, index: str) -> bool:
    """Download a wheel or an sdist, and nothing that it needs; return whether the index has it."""
    options = ["--quiet", "--no-deps", "--no-cache-dir", "--no-build-isolation", "--index-url", index]
    command = [sys.executable, "-m", "pip", "download", *options, kind, ":all:", "--dest", str(folder), requirement]
    for pause in (*PAUSES, None):
        if subprocess.run(command, check=False).returncode == 0:  # noqa: S603
            return True
        if pause is not None:
            time.sleep(pause)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
