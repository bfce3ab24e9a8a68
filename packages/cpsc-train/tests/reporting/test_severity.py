from __future__ import annotations

from pathlib import Path

import pytest

from cpsc_train.reporting.report.conditions import noise
from cpsc_train.reporting.report.source import Run

figure = pytest.importorskip("matplotlib.figure", reason="reports are drawn by matplotlib")


def part(modality, kind, severity, level, share=1.0):
    return {"modality": modality, "kind": kind, "severity": severity, "level": level, "share": share}


def run(name, conditions, **others):
    accuracies = {"clean": 0.9} | dict.fromkeys(conditions, 0.5) | others
    test = {condition: {"accuracy": {"fused": value}} for condition, value in accuracies.items()}
    return Run(name, Path(name), {}, [], {"test": test, "conditions": conditions}, {}, {})


def axes_of(panel):
    axes = figure.Figure().add_subplot()
    panel.draw(axes)
    return axes


def drawn(panel):
    axes = axes_of(panel)
    return panel.title, axes.get_xlabel(), [line.get_xdata().tolist() for line in axes.get_lines()]


def test_levels_of_a_kind_share_one_axis():
    levels = {f"pix:blur@{level}": [part("pix", "blur", level / 100, level)] for level in (5, 1)}
    both = {"both@3": [part("pix", "blur", 0.03, 3), part("fou", "gaussian", 1.5, 3)]}
    blur, joint = noise([run("a", levels | both), run("b", levels)]).panels
    assert drawn(blur) == ("blur noise on pix", "level", [[0, 1, 5], [0, 1, 5]])
    assert drawn(joint) == ("blur noise on pix and gaussian noise on fou", "level", [[0, 3]])


def test_severities_without_a_level_have_their_own_unit():
    conditions = {
        "pix-gaussian-0.5": [part("pix", "gaussian", 0.5, None)],
        "pix:gaussian@1": [part("pix", "gaussian", 0.08, 1)],
        "a-snr-3": [part("a", "snr", 3.0, None)],
        "half": [part("pix", "dropout", 0.5, None, share=0.5)],
        "uneven": [part("pix", "blur", 0.03, 3), part("fou", "gaussian", 2.0, None)],
    }
    gaussian, snr = noise([run("a", conditions)]).panels
    assert drawn(gaussian) == ("gaussian noise on pix", "severity", [[0.0, 0.08, 0.5]])
    assert drawn(snr) == ("snr noise on a", "severity", [[3.0]])  # 0 dB is not clean


def test_panels_share_the_vertical_axis_and_show_the_accuracy_without_the_modality():
    conditions = {"weak": [part("pix", "blur", 1, 1)], "strong": [part("fou", "gaussian", 2, 4)]}
    one = run("a", conditions, strong=0.2, **{"without-pix": 0.7})
    blur, gaussian = (axes_of(panel) for panel in noise([one]).panels)
    assert blur.get_ylim() == gaussian.get_ylim() == pytest.approx((16, 94))
    assert [line.get_ydata()[0] for line in blur.get_lines()] == pytest.approx([90, 70])
    assert len(gaussian.get_lines()) == 1
