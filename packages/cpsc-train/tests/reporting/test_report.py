from __future__ import annotations

import base64
import json
import re
import shutil
import tomllib
from html.parser import HTMLParser

import numpy as np
import pytest
import tomli_w

from cpsc_train import report
from cpsc_train.errors import UserError
from cpsc_train.reporting.report import _file_names, source
from cpsc_train.reporting.report.panel import Panel

pytest.importorskip("matplotlib", reason="reports are drawn by matplotlib")


class Page(HTMLParser):
    """Tags, what they refer to, and what is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.alternatives: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in {"src", "srcset", "href"}]
        self.alternatives += [value for name, value in attrs if name == "alt"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="session")
def two(finished, tmp_path_factory, cpsc, quick):
    """The finished run beside one without a conformal predictor in its loop."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(finished, folder / "calibrated" / "seed-0")
    outcome = cpsc("train", "--method", "joint", "--out", folder / "plain" / "seed-0", *quick[:-4])
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def written(two):
    return report(two)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures blank, where a test looks at words alone."""
    monkeypatch.setattr("cpsc_train.reporting.report.panel.Panel.render", lambda *_: b"\x89PNG")


def copied(folder, tmp_path, name="copy"):
    return shutil.copytree(folder, tmp_path / name)


def test_the_page_needs_nothing_else(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    for reference in page.references:
        assert reference.startswith(("data:image/png;base64,", "#s"))
    pictures = [reference for reference in page.references if reference.startswith("data:")]
    for picture in pictures:
        assert base64.b64decode(picture.partition(",")[2]).startswith(b"\x89PNG")
    files = sorted((written.parent / "figures").glob("*.png"))
    assert len(pictures) == 2 * len(files) == 2 * page.tags.count("figure")
    assert len(files) == page.tags.count("img") == len([text for text in page.alternatives if ": " in text])


def test_every_question_is_answered(written):
    page = Page(written.read_text(encoding="utf-8"))
    names = {file.stem for file in (written.parent / "figures").glob("*.png")}
    for wanted in (
        *("accuracy", "coverage", "set-size", "noise-pix-gaussian", "set-accuracy-plain", "class-coverage"),
        *("epochs-accuracy-pix", "epochs-coverage-fused", "epochs-set-size-pix"),
        *("losses-calibrated", "in-loop-quantile-fou", "reliability-fou", "component-reliability-pix"),
    ):
        assert wanted in names
    for wanted in ("Confusion", "Settings", "A set is empty if no class reaches the threshold"):
        assert wanted in page.text


def test_the_main_figures_come_first(written, two):
    page = Page(written.read_text(encoding="utf-8"))
    top = page.text[: page.text.index("Fused decision on the test rows")]
    for name in ("calibrated", "plain"):
        results = json.loads((two / name / "seed-0" / "results.json").read_text(encoding="utf-8"))
        clean = results["test"]["clean"]
        sets = clean["coverage"]["fused"]
        figures = f"{100 * clean['accuracy']['fused']:.1f}{sets['coverage']:.3f} (target 0.90){sets['mean_size']:.2f}"
        assert name + figures in top
        started = json.loads((two / name / "seed-0" / "environment.json").read_text(encoding="utf-8"))["started"]
        assert started[:16].replace("T", " ") in top
    assert "handwrittenjoint100 train, 40 calibration, 20 validation, 40 test0" in top


@pytest.mark.usefixtures("undrawn")
def test_one_run_is_reported_in_its_folder(finished, tmp_path, cpsc):
    run = copied(finished, tmp_path)
    outcome = cpsc("report", run)
    assert outcome.code == 0, outcome.err
    assert (run / "report" / "report.html").is_file()
    assert "Report of copy" in Page((run / "report" / "report.html").read_text(encoding="utf-8")).text


def test_names_cannot_become_markup_or_formulas(finished, tmp_path):
    run = copied(finished, tmp_path, "<b>$x_{<script>alert(1)</script>".replace("/", "-"))
    text = report(run).read_text(encoding="utf-8")
    assert Page(text).tags.count("b") == Page(text).tags.count("script") == 0
    assert "<b>$x_{" in Page(text).text


def test_what_is_not_there_yet_is_said(finished, tmp_path):
    run = copied(finished, tmp_path)
    for name in ("results.json", "predictions.npz"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"epoch": 3, "lo', encoding="utf-8")
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    (run / "environment.json").write_text(json.dumps(environment | {"status": "interrupted"}), encoding="utf-8")
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "copy (interrupted) has no results, predictions.npz; what they contain is not shown." in text
    assert "Confusion" not in text
    assert (run / "report" / "figures" / "epochs-accuracy-fused.png").is_file()
    (run / "metrics.jsonl").unlink()
    text = Page(report(run).read_text(encoding="utf-8")).text
    assert "no results, predictions.npz, a completed epoch; what" in text
    assert "Settings" in text


@pytest.mark.usefixtures("undrawn")
def test_other_protocols_are_not_compared_silently(finished, tmp_path):
    first, second = copied(finished, tmp_path, "a"), copied(finished, tmp_path, "b")
    config = tomllib.loads((second / "config.toml").read_text(encoding="utf-8"))
    config["splits"]["seed"] = 1
    (second / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    text = Page(report([first, second]).read_text(encoding="utf-8")).text
    assert "These runs differ in splits: their figures come from different protocols" in text
    assert "splits.seed01" in text


def test_options_of_another_method_are_no_difference(two):
    runs = source.read_runs([two])
    assert [run.name for run in runs] == ["calibrated", "plain"]
    assert list(source.differing(runs)) == ["method.name"]
    assert source.protocol_differences(runs) == []


@pytest.mark.usefixtures("undrawn")
def test_mistakes_are_told(finished, tmp_path, cpsc):
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([tmp_path / "absent"], "absent: no such folder"),
        ([tmp_path / "empty"], "is neither a run folder"),
        ([finished, finished], "is given twice"),
        ([finished, "--out", finished / "config.toml"], "must be a folder, got a file"),
        ([], "at least one run folder"),
    ):
        outcome = cpsc("report", *arguments)
        assert outcome.code == 2
        assert re.search(said, outcome.err), outcome.err


@pytest.mark.usefixtures("undrawn")
def test_a_strange_predictions_file_is_refused(finished, tmp_path):
    run = copied(finished, tmp_path)
    np.savez(run / "predictions.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"predictions\.npz: is not a readable"):
        report(run)


@pytest.mark.usefixtures("undrawn")
def test_of_many_runs_the_first_get_pictures_of_their_own(finished, tmp_path):
    for number in range(10):
        shutil.copytree(finished, tmp_path / f"run-{number}")
    page = report(tmp_path)
    names = {file.stem for file in (page.parent / "figures").glob("*.png")}
    assert {"set-accuracy-run-7", "losses-run-7", "epochs-accuracy-fused"} <= names
    assert "losses-run-8" not in names
    assert "The 2 runs after run-7 appear only where runs are compared" in Page(page.read_text(encoding="utf-8")).text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("link", ["report", "report/figures", "report/report.html"])
def test_a_run_of_somebody_else_does_not_lead_elsewhere(finished, tmp_path, cpsc, link):
    """A report was written through a link, over whatever file it led to."""
    run = copied(finished, tmp_path)
    secret = tmp_path / "secret"
    if link.endswith("html"):
        secret.write_text("mine")
    else:
        secret.mkdir()
    (run / link).parent.mkdir(exist_ok=True)
    (run / link).symlink_to(secret)
    outcome = cpsc("report", run)
    assert outcome.code == 2
    assert f"{link}: is a link" in outcome.err
    assert secret.read_text() == "mine" if secret.is_file() else not list(secret.iterdir())
    (tmp_path / "named").symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    assert cpsc("report", run, "--out", tmp_path / "named").code == 0  # a folder that the user names may be a link


def test_panels_with_names_that_differ_in_signs_have_files_of_their_own():
    panels = [Panel(name, "", lambda axes: None) for name in ("losses-a b", "losses-a_b", "losses-c", "losses-a/b")]
    assert _file_names(panels) == ["losses-a_b.png", "losses-a_b-2.png", "losses-c.png", "losses-a_b-3.png"]
    assert len(set(panels)) == 4  # pictures are looked up by panel
