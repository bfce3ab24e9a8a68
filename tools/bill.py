"""Software bill of materials (CycloneDX) of an installed package, and a check of what it holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile


def write_bill(python: Path, project: Path, version: str, file: Path) -> None:
    """Write the bill of a package of a version that is installed in the environment of `python`.

    The project in the file `project` has a dynamic version, which the bill would lack.
    """
    described = file.with_suffix(".toml")
    text = project.read_text(encoding="utf-8").replace('dynamic = ["version"]', f'version = "{version}"')
    described.write_text(text, encoding="utf-8")
    options = ["--pyproject", str(described), "--mc-type", "library", "--output-reproducible"]
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *options, "--output-file", str(file), str(python)]
    subprocess.run(command, check=True)  # noqa: S603
    described.unlink()


def bill_problems(file: Path, wheel: Path) -> list[str]:
    """Return what a bill lacks of a wheel: the package, its version and licence, and all that it requires."""
    bill = json.loads(file.read_text(encoding="utf-8"))
    name, version = wheel.name.split("-")[:2]
    main = bill["metadata"].get("component", {})
    components = {_plain(one["name"]): one for one in bill.get("components", [])}
    problems = []
    if (main.get("name"), main.get("version")) != (_plain(name), version):
        problems.append(f"must be about {_plain(name)} {version}, got {main.get('name')} {main.get('version')}")
    if "BSD-3-Clause" not in json.dumps(main.get("licenses", [])):
        problems.append(f"must hold the licence of {_plain(name)}")
    problems += [f"lacks {one}, which is required" for one in sorted(requirements(wheel) - components.keys())]
    problems += [f"has no version of {key}" for key, one in sorted(components.items()) if not one.get("version")]
    return [f"{file.name}: {problem}" for problem in problems]


def requirements(wheel: Path) -> set[str]:
    """Return the names of the packages that a wheel requires without extras."""
    with ZipFile(wheel) as archive:
        name = next(path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    required = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    return {_plain(re.split(r"[^\w.-]", one)[0]) for one in required if "extra ==" not in one}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
