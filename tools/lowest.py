"""Print the lowest version of every direct dependency, as pip constraints. Usage: lowest.py PYPROJECT…."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path


def main() -> None:
    """Print a line per dependency, without the members themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("projects", nargs="+", type=Path)
    options = parser.parse_args()
    tables = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in options.projects]
    members = {table["name"] for table in tables}
    requirements = [one for table in tables for one in table.get("dependencies", [])]
    print("\n".join(sorted(constraints(requirements, members))))  # noqa: T201


def constraints(requirements: list[str], members: set[str]) -> set[str]:
    """Return ``name==lowest``; the highest, if several requirements name one package.

    Examples
    --------
    >>> sorted(constraints(["numpy>=2", "torch>=2.4,<3", "mine>=0.1", "numpy>=2.1"], {"mine"}))
    ['numpy==2.1', 'torch==2.4']
    """
    lowest: dict[str, tuple[int, ...]] = {}
    for requirement in requirements:
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([\d.]+)", requirement)
        if match is None or match[1] in members:
            continue
        version = tuple(map(int, match[2].split(".")))
        lowest[match[1]] = max(lowest.get(match[1], ()), version)
    return {f"{name}=={'.'.join(map(str, version))}" for name, version in lowest.items()}


if __name__ == "__main__":
    main()
