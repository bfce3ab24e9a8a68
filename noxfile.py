"""The jobs of this repository. `nox -l` lists them; `nox` alone runs what a pull request must pass.

Environments are few, since one with torch takes 5 GB: `core` has no torch, `torch` holds all members editable and
serves every session that needs torch, `tools` holds the linters. They lie in `.nox/` and follow the requirements. The
demo installs no more into `torch` than it needs; other sessions add the extras and what tests need.
"""

import hashlib
import itertools
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10"

ROOT = Path(__file__).parent
MEMBERS = ["conformal-core", "cpsc-rsc", "cpsc-gsc", "cpsc-train"]  # in the order of their dependencies
EDITABLE = [part for member in MEMBERS for part in ("-e", f"packages/{member}")]
EXTRAS = {"cpsc-rsc": "[lightning,transformers]", "cpsc-train": "[all]"}
EVERYTHING = [part for member in MEMBERS for part in ("-e", f"packages/{member}{EXTRAS.get(member, '')}")]
LIGHT = [*EDITABLE, "torchvision>=0.21"]  # beside torch, since each version of one belongs to a version of the other
PARTS = [nox.param("core", id="core"), nox.param("all", id="all")]
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.14t"]  # t: free-threaded
NIGHTLY = ["moto[server]>=5", "onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3", "s3fs>=2024.2"]
TESTING = ["array-api-strict>=2.3", "hypothesis>=6.130", "pytest>=8.3", "pytest-xdist>=3.6"]
PARALLEL = ["-n", "2", "--dist", "loadfile"]  # a file stays in one process, since its tests share runs
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # each of the processes
DOCS = ["furo>=2024.8", "myst-nb>=1.3", "sphinx>=8", "sphinx-copybutton>=0.5", "sphinx-mathjax-offline>=0.0.2"]
TYPING = ["mypy>=1.14", "pyright[nodejs]>=1.1.400"]
EXAMPLES = (ROOT / "examples/requirements.txt").read_text(encoding="utf-8").split()
LOCKED = ["-c", "constraints.txt"]
UV = "uv>=0.7"
BENCHMARKS = {
    "steps": ["benchmarks/core/steps.py", "--long", "0"],
    "selfcalibration": ["benchmarks/selfcalibration/run.py", "--threads", "1", "--rounds", "20"],
}
PEERS = {"crepes": "0.9.1", "mapie": "1.6.0", "nonconform": "2.0.0", "online-cp": "0.4.0", "torchcp": "1.2.1"}
PEERS_NEED = ["cloudpickle", "joblib", "matplotlib", "pandas>=2", "scikit-learn>=1.6", "scipy", "tqdm"]
ENVIRONMENTS = {
    "core": ["-e", "packages/conformal-core", *TESTING],
    "torch": [*EVERYTHING, *TESTING, "scikit-learn>=1.6"],
    "tools": ["import-linter>=2.3", "pytest>=8.3", "pyyaml>=6", "ruff>=0.9", "towncrier>=24.8", "zizmor>=1.5"],
    "peers": ["-e", "packages/conformal-core", "pytest>=8.3", *PEERS_NEED],
    "release": ["build>=1.2", "cyclonedx-bom>=7", "hatchling>=1.26", "twine>=6.1"],
}


def environment(session: nox.Session, name: str, *more: str, light: bool = False) -> str:
    """Return the interpreter of an environment, made on first use.

    `more` is installed on top; `light` asks for the packages alone, without extras and what only tests need, which a
    later session adds in the same place.
    """
    home = ROOT / ".nox" / name
    python = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    requirements = [*(LIGHT if light else [*ENVIRONMENTS[name], *LOCKED]), *more]
    stamp = home / "requirements.sha256"
    installed = stamp.read_text(encoding="utf-8").split() if stamp.is_file() else []
    if _stamp(requirements) in installed:
        return python
    size = ": 5 to 7 GB on Linux, where PyTorch brings CUDA" if name == "torch" else ""
    session.log(f"installing into {home.relative_to(ROOT)}, once{size}")
    if not installed:
        shutil.rmtree(home, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(home))
    quiet = [] if size else ["--quiet"]  # minutes without output look like a hang
    session.run(python, "-m", "pip", "install", *quiet, *requirements)
    satisfied = [requirements, LIGHT] if name == "torch" else [requirements]
    stamp.write_text("\n".join([*installed, *map(_stamp, satisfied)]), encoding="utf-8")
    return python


def _stamp(requirements: list[str]) -> str:
    """Return a hash of the requirements, the interpreter, the projects of the members and the lock."""
    files = [*(f"packages/{member}/pyproject.toml" for member in MEMBERS), LOCKED[-1]]
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    return hashlib.sha256("\n".join([sys.version, *requirements, *texts]).encode()).hexdigest()


@nox.session(python=False, default=False)
def demo(session: nox.Session) -> None:
    """Train CPSC on the embedded data; arguments after -- go to `cpsc train`."""
    python = environment(session, "torch", light=True)
    session.log("training with python -m cpsc_train train, by default on the embedded 2,000 handwritten digits")
    session.run(python, "-m", "cpsc_train", "train", *session.posargs)


@nox.session(python=False)
@nox.parametrize("member", [nox.param(member, id=member, tags=[member]) for member in MEMBERS])
def tests(session: nox.Session, member: str) -> None:
    """Test a member; conformal-core first where there is no torch, then once more beside it."""
    for name in ["core", "torch"] if member == "conformal-core" else ["torch"]:
        command = ["-m", "pytest", *PARALLEL, f"packages/{member}", *session.posargs]
        session.run(environment(session, name), *command, env=ONE_THREAD)


@nox.session(python=False, default=False)
def nightly(session: nox.Session) -> None:
    """Run the slow tests of packages and tools, which every other session leaves out."""
    python = environment(session, "torch", *NIGHTLY)
    session.run(python, "-m", "pytest", "-m", "slow", "packages", "tools", *session.posargs)


@nox.session(python=False)
def examples(session: nox.Session) -> None:
    """Run the examples, with the libraries that they use."""
    python = environment(session, "torch", *EXAMPLES)
    session.run(python, "-m", "pytest", "-m", "slow or not slow", "examples", *session.posargs)


@nox.session(python=False)
@nox.parametrize("peer", [nox.param(peer, id=peer) for peer in PEERS])
def differential(session: nox.Session, peer: str) -> None:
    """Compare results with those of another library, cell by cell."""
    python = environment(session, "torch" if peer == "torchcp" else "peers")
    # Alone, since some ask for packages that have to be compiled, or for a newer Python, which nothing here needs.
    alone = ROOT / ".nox" / f"{peer}-alone"
    install = ["--quiet", "--no-deps", "--ignore-requires-python", "--upgrade", "--target", str(alone)]
    session.run(python, "-m", "pip", "install", *install, f"{peer}=={PEERS[peer]}")
    tests = ["differential/test_table.py", f"differential/test_{peer.replace('-', '_')}.py"]
    session.run(python, "-m", "pytest", *tests, *session.posargs, env={"PYTHONPATH": str(alone)})


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Check style, formatting, language, the length of files, and the workflows."""
    python = environment(session, "tools")
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(python, "tools/check_language.py")
    session.run(python, "tools/check_size.py")
    session.run(str(Path(python).with_name("zizmor")), "--quiet", "--offline", ".github")


@nox.session(python=False)
def tools(session: nox.Session) -> None:
    """Test the tools that make releases and check limits."""
    session.run(environment(session, "tools"), "-m", "pytest", "tools", *session.posargs)


@nox.session(python=False)
def contracts(session: nox.Session) -> None:
    """Check that imports go one way: core <- rsc, gsc <- train."""
    linter = str(Path(environment(session, "tools")).with_name("lint-imports"))
    sources = os.pathsep.join(str(ROOT / "packages" / member / "src") for member in MEMBERS)
    session.run(linter, env={"PYTHONPATH": sources})


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """Check types strictly; those of the public interface of conformal-core with a second checker too."""
    sources = [f"packages/{member}/src" for member in MEMBERS]
    python = environment(session, "torch", *TYPING)
    session.run(python, "-m", "mypy", *sources)
    verify = ["-m", "pyright", "--verifytypes", "conformal_core", "--ignoreexternal", "--pythonpath", python]
    session.run(python, *verify, env={"PYTHONPATH": str(ROOT / sources[0])})


@nox.session(python=False, default=False)
def coverage(session: nox.Session) -> None:
    """Run all tests with branch coverage, combined over the packages, and check each package against its limit."""
    python = environment(session, "torch", "pytest-cov>=6")
    report = Path(session.create_tmp()).resolve() / "coverage.json"
    measured = [f"--cov=packages/{member}/src" for member in MEMBERS]
    options = ["--cov-branch", "--cov-report=", f"--cov-report=json:{report}"]
    session.run(python, "-m", "pytest", *measured, *options, "packages", *session.posargs)
    session.run(python, "tools/check_coverage.py", str(report))


@nox.session(default=False)
@nox.parametrize("part", PARTS)
def lowest(session: nox.Session, part: str) -> None:
    """Test with the lowest version of every direct dependency, in an environment of its own."""
    members = MEMBERS[:1] if part == "core" else MEMBERS
    session.install(UV)
    install = ["uv", "pip", "install", "--quiet", "--python", "python", "--resolution", "lowest-direct"]
    session.run(*install, *EDITABLE[: 2 * len(members)], *TESTING)
    session.run("pytest", *(f"packages/{member}" for member in members), *session.posargs)


@nox.session(default=False)
@nox.parametrize("part", PARTS)
def newest(session: nox.Session, part: str) -> None:
    """Test with the newest version of every dependency, pre-releases included, in an environment of its own."""
    members, packages = (MEMBERS[:1], EDITABLE[:2]) if part == "core" else (MEMBERS, EVERYTHING)
    session.install("--pre", *packages, *TESTING)
    session.run("pytest", *(f"packages/{member}" for member in members), *session.posargs)


@nox.session(python=PYTHONS, default=False)
def python(session: nox.Session) -> None:
    """Test conformal-core on another Python, if it is installed; in continuous integration it must be."""
    session.install(*EDITABLE[:2], *TESTING)
    session.run("pytest", "packages/conformal-core", *session.posargs)


@nox.session(python=False, default=False)
def lock(session: nox.Session) -> None:
    """Lock the versions of all that the environments install, in constraints.txt; the demo takes the newest."""
    requirements = [*itertools.chain(*ENVIRONMENTS.values()), *DOCS, *TYPING, *EXAMPLES, *NIGHTLY]
    file = Path(session.create_tmp()).resolve() / "requirements.txt"
    file.write_text("\n".join(requirements).replace("-e\n", "-e "), encoding="utf-8")
    options = ["--universal", "--python-version", "3.11", "--no-annotate", "--no-emit-index-url", "--upgrade"]
    options += ["--custom-compile-command", "python -m nox -s lock", "--quiet", "--output-file", LOCKED[-1]]
    options += [part for member in MEMBERS for part in ("--no-emit-package", member)]
    session.run(environment(session, "tools", UV), "-m", "uv", "pip", "compile", *options, str(file))


@nox.session(python=False, default=False)
def api(session: nox.Session) -> None:
    """Compare each public interface with that of its last tag, and list breaking changes."""
    python = environment(session, "tools", "griffe>=1.7")
    for member in MEMBERS:
        tag = session.run("git", "tag", "--list", f"{member}-v*", "--sort=-v:refname", silent=True)
        if not str(tag).split():
            session.log(f"{member} has no tag yet: nothing to compare with")
            continue
        module = member.replace("-", "_")
        check = ["-m", "griffe", "check", module, "-s", f"packages/{member}/src", "-a", str(tag).split()[0]]
        session.run(python, *check)


@nox.session(python=False, default=False)
@nox.parametrize("script", [nox.param(path.stem, id=path.stem) for path in sorted(ROOT.glob("chaos/[!_]*.py"))])
def chaos(session: nox.Session, script: str) -> None:
    """Inject faults into commands; `-- --quick` makes fewer trials."""
    python = environment(session, "torch", "aiohttp>=3.9", "ray>=2.40", "werkzeug>=3")
    session.run(python, f"chaos/{script}.py", *session.posargs)


@nox.session(python=False, default=False)
def mutants(session: nox.Session) -> None:
    """Change a source file in one place at a time, and list the changes that tests miss: `-- SOURCE TEST [TEST...]`."""
    python = environment(session, "core" if "conformal-core" in str(session.posargs) else "torch")
    copy = str(Path(session.create_tmp()).resolve() / "copy")  # the sources themselves are never changed
    tools = environment(session, "tools", "cosmic-ray>=8.4")
    session.run(tools, "tools/mutants.py", copy, python, *session.posargs)


@nox.session(python=False, default=False)
def changed(session: nox.Session) -> None:
    """Test the packages that a branch changes, and those that depend on them; after --, the branch to compare with."""
    base = session.posargs[0] if session.posargs else "origin/main"
    names = str(session.run("git", "diff", "--name-only", f"{base}...", silent=True)).split()
    touched = {name.split("/")[1] for name in names if name.startswith("packages/")}
    everything = "conformal-core" in touched or not {"pyproject.toml", "noxfile.py"}.isdisjoint(names)
    for member in MEMBERS:
        if everything or member in touched or (touched and member == "cpsc-train"):
            session.notify(f"tests({member})", posargs=[])


@nox.session(python=False, default=False)
def bump(session: nox.Session) -> None:
    """Make a release: `nox -s bump -- conformal-core minor`; changes files, commits nothing."""
    session.run(environment(session, "tools"), "tools/bump.py", *session.posargs)


@nox.session(python=False, default=False)
def states(session: nox.Session) -> None:
    """Save files of a version before its release, for the tests of later ones: `nox -s states -- cpsc-rsc`."""
    script = Path("packages", *session.posargs, "tests", "test_released.py")  # relative: runs record their command
    if len(session.posargs) != 1 or not script.exists():
        session.error("give a package that saves states")
    session.run(environment(session, "torch"), str(script), env=ONE_THREAD)


@nox.session(python=False, default=False)
def address(session: nox.Session) -> None:
    """Write the address of the repository into all metadata: `nox -s address -- https://github.com/OWNER/NAME`."""
    session.run(sys.executable, "tools/address.py", *session.posargs)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Build the documentation, failing on warnings and unresolved references, and run the code in it."""
    python = environment(session, "torch", *DOCS)
    session.run(python, "-m", "sphinx", "-q", "-W", "-n", "-b", "html", "docs", "docs/_build/html")
    session.run(python, "-m", "pytest", "docs")


@nox.session(python=False, default=False)
def links(session: nox.Session) -> None:
    """Request every address in the documentation; needs a network."""
    python = environment(session, "torch", *DOCS)
    options = ["-b", "linkcheck", "-D", "nb_execution_mode=off"]
    session.run(python, "-m", "sphinx", "-q", *options, "docs", "docs/_build/links")


@nox.session(python=False, default=False)
def site(session: nox.Session) -> None:
    """Build the documentation of main and of released versions into docs/_build/site."""
    session.run(environment(session, "torch", *DOCS), "tools/site_versions.py", "docs/_build/site")


@nox.session(python=False, default=False)
def benchmarks(session: nox.Session) -> None:
    """Run short benchmarks, and compare their ratios with the history in a folder: `nox -s benchmarks -- FOLDER`."""
    if len(session.posargs) != 1:
        session.error("give the folder of the history")
    python, figures = environment(session, "torch"), Path(session.create_tmp()).resolve()
    files = {str(figures / f"{name}.json"): command for name, command in BENCHMARKS.items()}
    for file, command in files.items():
        Path(file).unlink(missing_ok=True)
        # A limit that steps.py misses is known; what counts here is a change.
        session.run(python, *command, "--json", file, success_codes=[0, 1], env=ONE_THREAD)
    session.run(python, "tools/history.py", str(Path(session.posargs[0], "ratios.jsonl")), *files)


@nox.session(python=False, default=False)
def rehearsal(session: nox.Session) -> None:
    """Rehearse a release without publishing: build, check, install, try out.

    Packages with torch use that of the environment `torch`, and some of the tests run. `-- --full` installs all
    dependencies and runs all tests; `--tag NAME-vX.Y.Z` collects the files to publish in dist/release.
    """
    beneath = [] if "--full" in session.posargs else ["--beneath", environment(session, "torch")]
    folders = ["dist", str(Path(session.create_tmp()).resolve() / "rehearsal")]
    python = environment(session, "release")
    session.run(python, "tools/rehearse.py", *folders, *beneath, *session.posargs)


@nox.session(python=False, default=False)
def published(session: nox.Session) -> None:
    """Compare a published release with the rehearsed files, and try it out: `-- NAME-vX.Y.Z dist/release`."""
    scratch = str(Path(session.create_tmp()).resolve() / "published")
    session.run(environment(session, "release"), "tools/published.py", scratch, *session.posargs)
