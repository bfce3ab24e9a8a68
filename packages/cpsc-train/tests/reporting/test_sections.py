"""Sections on conditions, sets and trust: what is drawn and listed is what `results.json` holds."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from cpsc_train.reporting.report.conditions import by_condition
from cpsc_train.reporting.report.sets import sets, trust
from cpsc_train.reporting.report.source import Run
from cpsc_train.reporting.report.training import quantiles

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
    fused = {"target": 0.9, "coverage": coverage, "mean_size": size, "thresholds": thresholds}
    return {"accuracy": {"fused": accuracy}, "coverage": {"fused": fused}} | ({"trust": weights} if weights else {})


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
    results = {"test": PLAIN, "coverage": {"test": PLAIN["clean"]["coverage"]}}
    if variants:
        results["inference"] = {n: {"test": of, "notes": ["few rows"], "seen": []} for n, of in variants.items()}
    return Run(name, Path(name), {"data": {"modalities": ["a", "b"]}}, [], results, {}, {"status": "done"})


def drawn(panel):
    axes = figure.Figure().add_subplot()
    panel.draw(axes)
    return axes


@pytest.mark.parametrize(
    ("panel", "plain", "weighted"),
    [
        ("accuracy", [88, 60, 80], [87, 82, 80]),
        ("coverage", [0.9, 0.5, 0.91], [0.92, 0.875, 0.91]),
        ("set-size", [1.0, 1.1, 1.2], [1.3, 1.4, 1.2]),
    ],
)
def test_plain_and_variant_share_the_axes_and_the_conditions(panel, plain, weighted):
    panels = {one.name: one for one in by_condition([run(variants={"trust": TRUST})]).panels}
    axes = drawn(panels[panel])
    points = {line.get_label(): line for line in axes.get_lines()}
    assert points["plain"].get_xdata() == pytest.approx(plain)
    assert points["trust"].get_xdata() == pytest.approx(weighted)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PLAIN)
    targets = [line.get_xdata() for line in axes.get_lines() if line.get_label().startswith("_")]
    assert targets == ([[0.9, 0.9]] if panel == "coverage" else [])


def test_runs_and_their_variants_have_columns_of_their_own():
    accuracies, coverages = by_condition([run("p", {"trust": TRUST}), run("q")]).tables
    assert accuracies.header == coverages.header == ["condition", "p", "p + trust", "q"]
    assert accuracies.rows[1] == ["a:gaussian@3", "60.0", "82.0", "60.0"]
    assert coverages.rows[1] == ["a:gaussian@3", "0.500 (1.10)", "0.875 (1.40)", "0.500 (1.10)"]


def test_a_run_without_a_head_has_no_line_of_it():
    """Runs with other modalities are compared too."""

    def one(name, *modalities):
        trace = {"step": [1, 2], "in_loop_quantile": {head: [0.5, 0.4] for head in (*modalities, "fused")}}
        config = {"data": {"modalities": list(modalities)}}
        return Run(name, Path(name), config, [{"epoch": 1, "trace": trace}], None, {}, {})

    panels = quantiles([one("p", "a", "b"), one("q", "a", "c")]).panels
    lines = {panel.name.rpartition("-")[2]: len(drawn(panel).get_lines()) for panel in panels}
    assert lines == {"a": 2, "b": 1, "fused": 2, "c": 1}


def test_trust_is_listed_by_condition_and_modality():
    (table,) = trust([run(variants={"trust": TRUST, "read": PLAIN})]).tables
    assert table.title == "Weights of trust. few rows."
    assert table.rows == [
        ["clean", "4.0 (0.99)", "5.0 (1.00)"],
        ["a:gaussian@3", "100.0 (0.25)", "0.0 (1.00)"],
        ["without-a", "–", "5.0 (1.00)"],
    ]
    assert table.shades[1:] == [[0.75, 0], [0, 0]]  # dark where the weight is low


def test_thresholds_are_pooled_over_the_conditions():
    _, thresholds = sets([run(variants={"trust": TRUST})]).tables
    assert thresholds.rows == [
        ["plain", "a", "–", "400", "100", "∞ (full sets)", "0.910"],
        ["plain", "none", "–", "800", "100", "0.500", "0.700"],
        ["trust", "a", "–", "400", "100", "0.500", "0.910"],
        ["trust", "none", "a least, mean to 0.250", "300", "100", "0.500", "0.900"],
        ["trust", "none", "–", "500", "100", "0.500", "0.896"],
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_long_names_stay_inside_the_picture(theme):
    """A name of a condition or run is shortened, and the picture keeps its width."""
    image = pytest.importorskip("PIL.Image")
    names = {f"a:gaussian@{level}+b:salt-and-pepper@{level}": PLAIN["clean"] for level in range(12)}
    runs = [run(f"{number} of a long name of a run") for number in range(5)]
    for one in runs:
        one.results["test"] = {"clean": PLAIN["clean"]} | names
    picture = image.open(BytesIO(by_condition(runs).panels[0].render(theme)))
    assert picture.width == 720
    for x in (0, 719):
        assert len({picture.getpixel((x, y)) for y in range(picture.height)}) == 1
