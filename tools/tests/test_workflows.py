"""Tests of the workflows: what they may do, and that nox does the work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import history
import open_issue
import pytest
import site_versions

yaml = pytest.importorskip("yaml")
FOLDER = Path(__file__).parents[2] / ".github/workflows"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yml"))}
JOBS = [(f"{file}:{name}", job) for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()]
PUBLISHING = {"release.yml:attest", "release.yml:testpypi", "release.yml:pypi", "pages.yml:deploy"}


def steps(job, action):
    return [step.get("with", {}) for step in job["steps"] if action in step.get("uses", "")]


def test_actions_are_pinned_by_commit():
    """A tag can be moved to other code; a commit cannot. The updater reads the version from the comment."""
    used = [line for path in FOLDER.glob("*.yml") for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert len(used) > 5
    for line in used:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_only_publishing_jobs_get_an_identity(name, job):
    assert ("id-token" in job.get("permissions", {})) == (name in PUBLISHING)
    if name in PUBLISHING:  # they run no code of the repository
        assert not steps(job, "checkout")
        assert not [step for step in job["steps"] if "run" in step]


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_steps_hold_no_logic(name, job):
    allowed = ("python -m pip install nox", "python -m nox -s ", "bash .ci/run", "python3 tools/open_issue.py ", "gh ")
    for step in job["steps"]:
        if "run" in step:
            assert step["run"].startswith(allowed)
            assert not re.search(r"[;|&\n]", step["run"])


def test_a_release_is_tried_before_it_is_published():
    jobs = WORKFLOWS["release.yml"]["jobs"]
    order = ["rehearsal", "attest", "testpypi", "on-testpypi", "pypi", "on-pypi", "github"]
    assert {name: jobs[name].get("needs") for name in order} == dict(zip(order, [None, *order], strict=False))
    assert jobs.keys() == set(order)


def test_what_is_published_is_attested():
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert jobs["attest"]["permissions"] == {"attestations": "write", "contents": "read", "id-token": "write"}
    assert steps(jobs["attest"], "attest-build-provenance") == [{"subject-path": "dist/*"}]
    assert steps(jobs["attest"], "attest-sbom") == [{"subject-path": "dist/*", "sbom-path": "beside/sbom.cdx.json"}]
    for name in ("testpypi", "pypi"):
        (options,) = steps(jobs[name], "gh-action-pypi-publish")
        assert options["attestations"] is True
        assert "password" not in options
        assert jobs[name]["environment"] == name


def test_a_slower_benchmark_fails(tmp_path, capsys):
    past, figures = tmp_path / "folder/history.jsonl", tmp_path / "figures.json"

    def run(value):
        figures.write_text(json.dumps({"step": value}), encoding="utf-8")
        return history.main(past, [figures])

    assert [run(value) for value in (5.0, 9.0, 5.2)] == [0, 0, 0]  # too few to compare with
    assert run(5.3 * history.THRESHOLD) == 1
    assert "slower by more than 30%: step" in capsys.readouterr().out
    assert run(5.0) == 0
    assert len(past.read_text("utf-8").splitlines()) == 5


@pytest.mark.parametrize(("title", "expected"), [("A", ["comment", "3"]), ("B", ["create", "--title"])])
def test_a_failure_opens_one_issue(title, expected):
    calls = []

    def gh(*arguments):
        calls.append(arguments)
        return '[{"number": 4, "title": "A"}, {"number": 3, "title": "A"}]' if "list" in arguments else ""

    open_issue.report(title, "it failed", gh)
    assert list(calls[-1][1:3]) == expected


def test_each_version_of_the_site_lists_all(tmp_path, monkeypatch):
    built, ran = [], []

    def git(*words):
        ran.append(words)
        return "cpsc-train-v0.1.0\ncpsc-train-v0.2.1"

    def build(_source, target, names):
        target.mkdir(parents=True)
        built.append(names)

    monkeypatch.setattr(site_versions, "git", git)
    monkeypatch.setattr(site_versions, "build", build)
    site_versions.main(tmp_path / "site")
    assert built == [["0.2", "0.1", "main"]] * 3
    assert [words[:2] for words in ran[1:]] == [("worktree", "add"), ("worktree", "remove")] * 2
    assert "url=0.2/" in (tmp_path / "site/index.html").read_text("utf-8")
