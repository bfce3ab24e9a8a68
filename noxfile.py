"""The jobs of this repository. `nox -l` lists them; `nox` alone runs what a pull request must pass.

Environments are few, since one with torch takes 5 GB: `core` has no torch, `torch` holds all members editable and
serves every session that needs them, `tools` holds the linters. They lie in `.nox/` and follow the requirements.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10"

ROOT = Path(__file__).parent
MEMBERS = ["conformal-core", "cpsc-rsc", "cpsc-gsc", "cpsc-train"]  # in the order of their dependencies
EDITABLE = [part for member in MEMBERS for part in ("-e", f"packages/{member}")]
EVERYTHING = [*EDITABLE[:-1], f"{EDITABLE[-1]}[all]"]
TESTING = ["array-api-strict>=2.3", "hypothesis>=6.130", "pytest>=8.3"]
DOCS = ["furo>=2024.8", "myst-parser>=4", "sphinx>=8"]
ENVIRONMENTS = {
    "core": ["-e", "packages/conformal-core", *TESTING],
    "torch": [*EVERYTHING, *TESTING, "scikit-learn>=1.5"],
    "tools": ["import-linter>=2.3", "ruff>=0.9"],
}


def environment(session: nox.Session, name: str, *more: str) -> str:
    """Return the interpreter of an environment, made on first use; `more` is installed on top."""
    home = ROOT / ".nox" / name
    python = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    requirements = [*ENVIRONMENTS[name], *more]
    projects = [(ROOT / "packages" / member / "pyproject.toml").read_text(encoding="utf-8") for member in MEMBERS]
    wanted = hashlib.sha256("\n".join([sys.version, *requirements, *projects]).encode()).hexdigest()
    stamp = home / "requirements.sha256"
    made = stamp.read_text(encoding="utf-8").split() if stamp.is_file() else []
    if wanted in made:
        return python
    if not made:
        shutil.rmtree(home, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(home), external=True)
    session.run(python, "-m", "pip", "install", "--quiet", *requirements, external=True)
    stamp.write_text("\n".join([*made, wanted]), encoding="utf-8")
    return python


@nox.session(python=False, default=False)
def demo(session: nox.Session) -> None:
    """Train CPSC on the embedded data; arguments after -- go to `cpsc train`."""
    session.run(environment(session, "torch"), "-m", "cpsc_train", "train", *session.posargs, external=True)


@nox.session(python=False)
@nox.parametrize("member", [nox.param(member, id=member, tags=[member]) for member in MEMBERS])
def tests(session: nox.Session, member: str) -> None:
    """Test a member; conformal-core first where there is no torch, then once more beside it."""
    names = ["core", "torch"] if member == "conformal-core" else ["torch"]
    for name in names:
        session.run(environment(session, name), "-m", "pytest", f"packages/{member}", *session.posargs, external=True)


@nox.session(python=False)
def examples(session: nox.Session) -> None:
    """Run the examples, with what they show how to work with."""
    python = environment(session, "torch", *(ROOT / "examples/requirements.txt").read_text(encoding="utf-8").split())
    session.run(python, "-m", "pytest", "examples", *session.posargs, external=True)


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    python = environment(session, "tools")
    session.run(python, "-m", "ruff", "check", ".", external=True)
    session.run(python, "-m", "ruff", "format", "--check", ".", external=True)


@nox.session(python=False)
def contracts(session: nox.Session) -> None:
    """Check that imports go one way: core <- rsc, gsc <- train."""
    environment(session, "tools")
    sources = os.pathsep.join(str(ROOT / "packages" / member / "src") for member in MEMBERS)
    linter = str(ROOT / ".nox" / "tools" / ("Scripts" if os.name == "nt" else "bin") / "lint-imports")
    session.run(linter, external=True, env={"PYTHONPATH": sources})


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    sources = [f"packages/{member}/src" for member in MEMBERS]
    session.run(environment(session, "torch", "mypy>=1.14"), "-m", "mypy", *sources, external=True)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Build the documentation, where a warning or a dangling reference fails, and run the code in it."""
    python = environment(session, "torch", *DOCS)
    session.run(python, "-m", "sphinx", "-q", "-W", "-n", "-b", "html", "docs", "docs/_build/html", external=True)
    session.run(python, "-m", "pytest", "docs", external=True)


@nox.session(python=False, default=False)
def wheels(session: nox.Session) -> None:
    """Build the wheels, install only them in fresh environments, and run the tests from outside the tree."""
    dist = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    tools = environment(session, "tools", "build>=1.2")
    for member in MEMBERS:
        session.run(
            tools, "-m", "build", "--wheel", "--outdir", str(dist), f"packages/{member}", silent=True, external=True
        )
    session.run(tools, "tools/check_wheels.py", str(dist), external=True)
    for name, members in {"wheel-core": MEMBERS[:1], "wheel-all": MEMBERS}.items():
        home = ROOT / ".nox" / name
        shutil.rmtree(home, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(home), external=True)
        python = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        found = [str(next(dist.glob(f"{member.replace('-', '_')}-*.whl"))) for member in members]
        session.run(python, "-m", "pip", "install", "--quiet", *found, *TESTING, external=True)
        with session.chdir(session.create_tmp()):
            for member in members:
                settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT / "packages" / member)]
                tests_of = str(ROOT / "packages" / member / "tests")
                session.run(python, "-m", "pytest", *settings, tests_of, external=True)
        shutil.rmtree(home)
