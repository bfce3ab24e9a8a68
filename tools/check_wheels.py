"""Check the contents and the requirements of the wheels in a folder. Usage: check_wheels.py DIST."""

import sys
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent


def main(dist: Path) -> int:
    """Print the problems; return the exit code."""
    problems = []
    for project in sorted(ROOT.glob("packages/*/pyproject.toml")):
        name = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"]
        wheels = list(dist.glob(f"{name.replace('-', '_')}-*.whl"))
        if len(wheels) != 1:
            problems.append(f"{name}: expected one wheel in {dist}, found {len(wheels)}")
            continue
        problems += [f"{wheels[0].name}: {problem}" for problem in _wheel(wheels[0], name, project.parent)]
    print("\n".join(problems) or f"{dist}: no problem")  # noqa: T201
    return bool(problems)


def _wheel(wheel: Path, name: str, source: Path) -> list[str]:
    module = name.replace("-", "_")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(path for path in names if path.endswith(".dist-info/METADATA")).partition("/")[0]
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    problems = [f"lacks {path}" for path in (f"{module}/py.typed", f"{info}/licenses/LICENSE") if path not in names]
    tracked = {path.relative_to(source / "src").as_posix() for path in (source / "src").rglob("*") if path.is_file()}
    tracked = {path for path in tracked if "__pycache__" not in path}
    problems += [f"lacks {path}" for path in sorted(tracked - names)]
    problems += [f"holds {path}" for path in sorted(names) if not path.startswith((f"{module}/", f"{info}/"))]
    if len(metadata.get_payload()) < 500:
        problems.append("has no README of 500 characters")
    required = [requirement.lower() for requirement in metadata.get_all("Requires-Dist", [])]
    if name == "conformal-core" and any(r.startswith("torch") and "extra ==" not in r for r in required):
        problems.append("requires torch")
    return problems


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
