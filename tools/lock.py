"""Lock what developers install: the versions of all direct and indirect dependencies, on every system and Python.

Usage: lock.py OUTPUT REQUIREMENT... . A package of this repository, such as cpsc-train[all], stands for what it
requires; neither the packages themselves nor the address of the index are written.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HEADER = "# Versions that developers and continuous integration install; written by `python -m nox -s lock`.\n"
OPTIONS = ("--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url")


def main(output: Path, wanted: list[str]) -> None:
    """Write the locked versions, as constraints of pip."""
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("packages/*/pyproject.toml")]
    projects = {project["name"]: project for project in (tomllib.loads(text)["project"] for text in texts)}
    lines = "\n".join(sorted({line for one in wanted for line in expanded(one, projects)}))
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *OPTIONS, "-"]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    output.write_text(HEADER + done.stdout, encoding="utf-8")


def expanded(requirement: str, projects: dict[str, Any]) -> set[str]:
    """Return a requirement, or those of a project of ours and of its extras.

    Examples
    --------
    >>> project = {"dependencies": ["numpy>=2"], "optional-dependencies": {"all": ["a[text]"], "text": ["regex"]}}
    >>> sorted(expanded("a[all]", {"a": project})), expanded("torch>=2", {"a": project})
    (['numpy>=2', 'regex'], {'torch>=2'})
    """
    name, extras = re.match(r"([\w.-]+)(?:\[([^]]*)\])?", requirement).groups()  # type: ignore[union-attr]
    if name not in projects:
        return {requirement}
    required = list(projects[name].get("dependencies", []))
    for extra in extras.split(",") if extras else []:
        required += projects[name]["optional-dependencies"][extra.strip()]
    return {one for line in required for one in expanded(line, projects)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
