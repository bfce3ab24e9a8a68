from __future__ import annotations

from pathlib import Path

import pytest

from cpsc_train.reporting.report.severity import severity_panels
from cpsc_train.reporting.report.source import Run

figure = pytest.importorskip("matplotlib.figure", reason="reports are drawn by matplotlib")


def part(modality, kind, severity, level, share=1.0):
    return {"modality": modality, "kind": kind, "severity": severity, "level": level, "share": share}


def run(name, conditions, *, listed=True, noise=()):
    accuracies = {"clean": 0.9} | dict.fromkeys(conditions, 0.5)
    results = {"test": {condition: {"accuracy": {"fused": value}} for condition, value in accuracies.items()}}
    if listed:
        results["conditions"] = conditions
    return Run(name, Path(name), {"noise": list(noise)}, [], results, {}, {})


def drawn(panel):
    axes = figure.Figure().add_subplot()
    panel.draw(axes)
    return axes.get_xlabel(), [line.get_xdata().tolist() for line in axes.get_lines()]


def test_levels_of_a_kind_share_one_axis():
    levels = {f"pix:blur@{level}": [part("pix", "blur", level / 100, level)] for level in (5, 1)}
    both = {"both@3": [part("pix", "blur", 0.03, 3), part("fou", "gaussian", 1.5, 3)]}
    blur, joint = severity_panels([run("a", levels | both), run("b", levels)])
    assert drawn(blur) == ("level of blur noise on pix", [[0, 1, 5], [0, 1, 5]])
    assert joint.title == "blur noise on pix and gaussian noise on fou"
    assert drawn(joint)[1] == [[0, 3]]


def test_severities_without_a_level_have_their_own_unit():
    conditions = {
        "pix-gaussian-0.5": [part("pix", "gaussian", 0.5, None)],
        "pix:gaussian@1": [part("pix", "gaussian", 0.08, 1)],
        "a-snr-3": [part("a", "snr", 3.0, None)],
        "half": [part("pix", "dropout", 0.5, None, share=0.5)],
        "uneven": [part("pix", "blur", 0.03, 3), part("fou", "gaussian", 2.0, None)],
    }
    gaussian, snr = severity_panels([run("a", conditions)])
    assert drawn(gaussian) == ("severity of gaussian noise on pix", [[0.0, 0.08, 0.5]])
    assert drawn(snr) == ("severity of snr noise on a", [[3.0]])  # 0 dB is not clean


def test_a_run_that_lists_no_conditions_has_those_of_its_configuration():
    noise = [{"modality": "pix", "kind": "gaussian", "severity": 0.5}]
    (panel,) = severity_panels([run("a", ["pix-gaussian-0.5"], listed=False, noise=noise)])
    assert drawn(panel)[1] == [[0, 0.5]]
