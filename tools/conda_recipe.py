"""The conda-forge recipe of a built sdist, as a pull request to conda-forge/staged-recipes needs it.

Name, version, hash, licence, dependencies and commands are read from the archive.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path

CONDA = {"torch": "pytorch"}
"""Names on conda-forge that differ from those on PyPI."""


def contents(archive: Path) -> tuple[Message, dict[str, str]]:
    """Return the metadata of an sdist, and its commands."""
    with tarfile.open(archive) as tar:
        root = tar.getnames()[0].split("/")[0]

        def read(name: str) -> str:
            file = tar.extractfile(f"{root}/{name}")
            return "" if file is None else file.read().decode()

        project = tomllib.loads(read("pyproject.toml"))["project"]
        return Parser().parsestr(read("PKG-INFO")), dict(project.get("scripts", {}))


def requirement(text: str) -> str | None:
    """Return a requirement in the syntax of conda; None for one of an extra.

    Examples
    --------
    >>> requirement("torch>=2.6"), requirement("cpsc-gsc<0.2,>=0.1"), requirement("av>=17; extra == 'video'")
    ('pytorch >=2.6', 'cpsc-gsc <0.2,>=0.1', None)
    """
    if ";" in text:
        return None
    name, versions = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(.*)", text).groups()  # type: ignore[union-attr]
    return f"{CONDA.get(name, name)} {versions}".strip()


def recipe(archive: Path) -> str:
    """Return the recipe of an sdist, in the format of rattler-build."""
    metadata, commands = contents(archive)
    name, version, file = metadata["Name"], metadata["Version"], archive.name
    python = metadata["Requires-Python"]
    runs = [needed for text in metadata.get_all("Requires-Dist", []) if (needed := requirement(text))]
    entry = "".join(f"\n      - {command} = {target}" for command, target in commands.items())
    return f"""\
schema_version: 1

context:
  version: "{version}"

package:
  name: {name}
  version: ${{{{ version }}}}

source:
  url: https://pypi.org/packages/source/{name[0]}/{name}/{file.replace(version, "${{ version }}")}
  sha256: {hashlib.sha256(archive.read_bytes()).hexdigest()}

build:
  number: 0
  noarch: python
  script: ${{{{ PYTHON }}}} -m pip install . -vv --no-deps --no-build-isolation{_points(entry)}

requirements:
  host:
    - python {python}
    - hatchling >=1.26
    - pip
  run:
    - python {python}
{"".join(f"    - {run}{chr(10)}" for run in runs)}
tests:
  - python:
      imports:
        - {name.replace("-", "_")}
      pip_check: true

about:
  summary: {metadata["Summary"]}
  license: {metadata["License-Expression"]}
  license_file: LICENSE
"""


def _points(entry: str) -> str:
    return f"\n  python:\n    entry_points:{entry}" if entry else ""
