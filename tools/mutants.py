"""Mutants of a source file that its tests do not detect, by cosmic-ray, in a copy of the packages.

Usage: mutants.py COPY PYTHON SOURCE TEST... . PYTHON runs the tests; the folder COPY is emptied.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = (
    ("cosmic-ray", "init", "mutants.toml", "mutants.sqlite", "--force"),
    ("cr-filter-operators", "mutants.sqlite", "mutants.toml"),
    ("cosmic-ray", "baseline", "mutants.toml"),
    ("cosmic-ray", "exec", "mutants.toml", "mutants.sqlite"),
    ("cr-report", "--surviving-only", "--show-diff", "mutants.sqlite"),
)


def main(copy: Path, python: str, source: str, tests: list[str]) -> None:
    """Copy the packages, mutate the source file there, and print the mutants that survive."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "packages", copy / "packages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    command = shlex.join([python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests])
    (copy / "mutants.toml").write_text(
        f"[cosmic-ray]\nmodule-path = {source!r}\ntimeout = 120.0\ntest-command = {command!r}\n"
        "distributor.name = 'local'\n"
        # `|` stands in annotations
        "filters.operators-filter.exclude-operators = ['core/ReplaceBinaryOperator_BitOr_.*']\n",
        encoding="utf-8",
    )
    paths = os.pathsep.join(str(path) for path in sorted(copy.glob("packages/*/src")))
    for step in STEPS:
        program = str(Path(sys.executable).with_name(step[0]))
        subprocess.run([program, *step[1:]], cwd=copy, env={**os.environ, "PYTHONPATH": paths}, check=True)  # noqa: S603


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit("usage: mutants.py COPY PYTHON SOURCE TEST...: give a source file, and the tests that should notice")
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
