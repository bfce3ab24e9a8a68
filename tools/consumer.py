"""A user of the packages: a fresh environment, in which a package is installed from an index and tried out.

Nothing of the repository is imported there; the tests come from the sdist.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTING = ("array-api-strict>=2.3", "hypothesis>=6.130", "pytest>=8.3", "scikit-learn>=1.6")
PARTS: dict[str, tuple[str, ...]] = {
    "conformal-core": ("test_readme.py", "test_agreement.py", "test_states.py", "test_files.py", "test_released.py"),
    "cpsc-rsc": ("test_readme.py", "test_released.py", "test_trust.py"),
    "cpsc-gsc": ("test_readme.py", "test_loss.py"),
    "cpsc-train": (
        "test_writing.py",
        "test_reading.py",
        "test_released.py",
        "recipes/test_recipes.py",
        "cli/test_commands.py",
    ),
}
"""Tests of each package, in the order of their dependencies, that say whether an installed copy works."""


class Environment:
    """A fresh virtual environment.

    Parameters
    ----------
    home
        Its folder, which must not exist.
    beneath
        Interpreter of an environment whose packages are visible, but not the editable ones; None for none.
    """

    def __init__(self, home: Path, beneath: str | None = None) -> None:
        venv.create(home)
        self.home, self.beneath = home, beneath
        self.python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if beneath is not None:  # .pth files there, such as those of editable packages, are not followed
            where = "import sysconfig; print(sysconfig.get_path('purelib'))"
            packages = _run([beneath, "-c", where], capture=True).strip()
            target = _run([str(self.python), "-c", where], capture=True).strip()
            (Path(target) / "beneath.pth").write_text(f"{packages}\n", encoding="utf-8")

    def install(self, *requirements: str) -> None:
        """Install requirements or wheels by pip, with their dependencies unless an environment lies beneath."""
        options = ["--quiet", *(["--no-deps", "--ignore-installed"] if self.beneath else [])]
        _run([sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, *requirements])

    def check(self) -> None:
        """Check that the requirements of all installed packages are satisfied."""
        if self.beneath is None:  # the environment beneath may have conflicts of its own
            _run([sys.executable, "-m", "pip", "--python", str(self.python), "check"])

    def place(self, module: str) -> Path:
        """Return the folder from which a module is imported."""
        code = f"import {module}; print({module}.__file__)"
        return Path(self.run("-c", code, capture=True).strip()).parent

    def run(self, *arguments: str, folder: Path | None = None, capture: bool = False) -> str:
        """Run its interpreter, isolated from the folders of the repository; return the output if captured."""
        variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        variables |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return _run([str(self.python), *arguments], folder=folder or self.home, environment=variables, capture=capture)


def try_out(environment: Environment, member: str, sdist: Path, folder: Path, *, full: bool = False) -> None:
    """Run tests of an installed package from its sdist; those of `PARTS`, or all.

    Raises
    ------
    subprocess.CalledProcessError
        If one fails.
    RuntimeError
        If the package is not imported from the environment.
    """
    module = member.replace("-", "_")
    place = environment.place(module)
    if not place.is_relative_to(environment.home):
        raise RuntimeError(f"{member} must be imported from {environment.home}, got {place}")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    tests = ["tests"] if full else [f"tests/{name}" for name in PARTS[member]]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(source), "-p", "no:cacheprovider", "-q"]
    environment.run("-m", "pytest", *settings, *tests, folder=source)


def _run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    capture: bool = False,
) -> str:
    print("+", *command, flush=True)  # noqa: T201
    output = subprocess.PIPE if capture else None
    done = subprocess.run(command, cwd=folder, env=environment, stdout=output, text=True, check=True)  # noqa: S603
    return done.stdout or ""
