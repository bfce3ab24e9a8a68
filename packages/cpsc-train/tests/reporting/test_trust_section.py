"""The report on inference variants: what is drawn and listed is what `results.json` holds."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from cpsc_train.reporting.report.source import Run
from cpsc_train.reporting.report.trust import inference

figure = pytest.importorskip("matplotlib.figure", reason="reports are drawn by matplotlib")


def threshold(rows, coverage, *, absent=(), typicality=None, value=0.5):
    return {
        "absent": list(absent),
        "unusual": typicality is not None,
        "least_typical": None if typicality is None else "a",
        "typicality": typicality,
        "threshold": value,
        "rows": rows,
        "calibration": 100,
        "coverage": coverage,
    }


def figures(accuracy, coverage, size, thresholds, weights=None):
    sets = {"target": 0.9, "coverage": coverage, "mean_size": size, "thresholds": thresholds}
    return {"accuracy": {"fused": accuracy}, "coverage": {"fused": sets}} | ({"trust": weights} if weights else {})


def weight(down_weighted, mean):
    return {"down_weighted": down_weighted, "mean": mean}


PLAIN = {
    "clean": figures(0.88, 0.9, 1.0, [threshold(400, 0.9)]),
    "a:gaussian@3": figures(0.6, 0.5, 1.1, [threshold(400, 0.5)]),
    "without-a": figures(0.8, 0.91, 1.2, [threshold(400, 0.91, absent=["a"], value=float("inf"))]),
}
TRUST = {
    "clean": figures(0.87, 0.92, 1.3, [threshold(400, 0.92)], {"a": weight(0.04, 0.99), "b": weight(0.05, 1.0)}),
    "a:gaussian@3": figures(
        0.82,
        0.875,
        1.4,
        [threshold(100, 0.8), threshold(300, 0.9, typicality=0.25)],
        {"a": weight(1, 0.25), "b": weight(0, 1)},
    ),
    "without-a": figures(0.8, 0.91, 1.2, [threshold(400, 0.91, absent=["a"])], {"b": weight(0.05, 1.0)}),
}


def run(name="r", variants=None):
    results = {"test": PLAIN} | ({"inference": {n: {"test": test} for n, test in variants.items()}} if variants else {})
    return Run(name, Path(name), {"data": {"modalities": ["a", "b"]}}, [], results, {}, {"status": "done"})


def drawn(panel):
    axes = figure.Figure().add_subplot()
    panel.draw(axes)
    return axes


def by_name(section):
    return {panel.name: panel for panel in section.panels}


@pytest.mark.parametrize(
    ("panel", "plain", "trust"),
    [
        ("inference-accuracy-r", [88, 60, 80], [87, 82, 80]),
        ("inference-coverage-r", [0.9, 0.5, 0.91], [0.92, 0.875, 0.91]),
        ("inference-set-size-r", [1.0, 1.1, 1.2], [1.3, 1.4, 1.2]),
    ],
)
def test_plain_and_variant_share_the_axes_and_the_conditions(panel, plain, trust):
    axes = drawn(by_name(inference([run(variants={"trust": TRUST})]))[panel])
    points = {line.get_label(): line for line in axes.get_lines()}
    assert points["plain"].get_xdata() == pytest.approx(plain)
    assert points["trust"].get_xdata() == pytest.approx(trust)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PLAIN)
    targets = [line.get_xdata() for line in axes.get_lines() if line.get_label().startswith("_")]
    assert targets == ([[0.9, 0.9]] if "coverage" in panel else [])


def test_cells_hold_the_weights_of_each_modality():
    panels = by_name(inference([run(variants={"trust": TRUST})]))
    down, mean = (drawn(panels[f"{name}-trust-r"]) for name in ("down-weighted", "mean"))
    assert [text.get_text() for text in down.texts] == ["4", "5", "100", "0", "–", "5"]
    assert [text.get_text() for text in mean.texts] == ["0.99", "1.00", "0.25", "1.00", "–", "1.00"]
    assert mean.get_images()[0].get_array()[1].tolist() == pytest.approx([0.75, 0])  # dark where trust is low


def test_thresholds_are_pooled_over_the_conditions():
    _, thresholds = inference([run(variants={"trust": TRUST})]).tables
    assert thresholds.rows == [
        ["plain", "a", "–", "400", "100", "∞ (full sets)", "0.910"],
        ["plain", "none", "–", "800", "100", "0.500", "0.700"],
        ["trust", "a", "–", "400", "100", "0.500", "0.910"],
        ["trust", "none", "a least, to 0.250", "300", "100", "0.500", "0.900"],
        ["trust", "none", "–", "500", "100", "0.500", "0.896"],
    ]


def test_a_variant_without_weights_has_no_panels_of_them():
    section = inference([run(variants={"read": PLAIN}), run("other")])
    assert [panel.title for panel in section.panels] == ["Accuracy, %, r", "Coverage, r", "Mean set size, r"]
    assert section.absent == ["other: no inference variant was evaluated (done)"]
    figures_of, _ = section.tables
    assert figures_of.rows[1] == ["a:gaussian@3", "60.0", "60.0", "0.500 (1.10)", "0.500 (1.10)"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_long_names_stay_inside_the_picture(theme):
    """A name of a condition or modality is shortened, and the picture keeps its width."""
    image = pytest.importorskip("PIL.Image")
    names = {f"a:gaussian@{level}+b:salt-and-pepper@{level}": TRUST["clean"] for level in range(12)}
    long = run(variants={"trust": {"clean": TRUST["clean"]} | names})
    long.results["test"] = {"clean": PLAIN["clean"]} | dict.fromkeys(names, PLAIN["clean"])
    panel = by_name(inference([long]))["inference-accuracy-r"]
    picture = image.open(BytesIO(panel.render(theme)))
    assert picture.size == (720, round(160 * panel.height))
    edge = {picture.getpixel((0, y)) for y in range(picture.height)}
    assert len(edge) == 1
