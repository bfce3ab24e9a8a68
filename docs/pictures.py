"""Figures of the documentation, drawn when it is built: `python docs/pictures.py FOLDER`.

Each function draws one figure into axes. The data is computed on the embedded digits or on seeded random numbers, or
read from `studies/results`. Every figure is drawn for light and dark pages.
"""

from __future__ import annotations

import csv
import sys
from functools import cache
from pathlib import Path

import numpy as np
from fading_stream import watched
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import beta

from conformal_core import (
    ACI,
    LAC,
    ExchangeabilityTest,
    OnlineClassifier,
    SplitClassifier,
    Window,
    conformal_quantile,
    prediction_set,
    rank_reliability,
    rolling_coverage,
    set_size,
)
from cpsc_train.data import Noise
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.data.noise import KINDS, fitting
from cpsc_train.data.preprocessing import Unscaled
from cpsc_train.reporting.report.panel import COLOURS, THEMES

ALPHA = 0.1
MEASURED = Path(__file__).parent.parent / "studies" / "results"
BLUE, RED, GREEN, PINK, *_ = COLOURS


def quantile(axes: Axes) -> None:
    """Histogram of calibration scores, with q̂."""
    probabilities, labels = _digits("fou")[0]
    scores = 1 - probabilities[np.arange(len(labels)), labels]
    qhat = float(conformal_quantile(scores, alpha=ALPHA))
    axes.hist(scores, bins=40, color=BLUE, alpha=0.7)
    axes.axvline(qhat, color=RED)
    axes.text(qhat, axes.get_ylim()[1] * 0.9, f" q̂ = {qhat:.2f}", color=RED)
    axes.set(xlabel="score of the true class, 1 − its probability", ylabel="calibration rows")


def sets(axes: Axes) -> None:
    """Class probabilities of four rows, their prediction sets, and the reliability of the true class."""
    (calibration, labels), (probabilities, truth) = _digits("fou")
    predictor = SplitClassifier(LAC(), alpha=ALPHA)
    predictor.calibrate(calibration, labels)
    predicted = predictor.predict(probabilities)
    sizes, hit = set_size(predicted), predicted[np.arange(len(truth)), truth]
    best = probabilities.argmax(1) == truth
    kinds = ((sizes == 1) & hit, (sizes == 2) & hit & ~best, (sizes == 4) & hit & ~best, (sizes == 2) & ~hit)
    rows = [int(np.flatnonzero(kind)[0]) for kind in kinds]
    trust = rank_reliability(LAC()(probabilities[rows]), truth[rows], predictor.qhat)
    for place, row in enumerate(rows):
        order = np.argsort(-probabilities[row])[:6]
        inside = predicted[row][order]
        x = place * 8 + np.arange(6)
        axes.bar(x[inside], probabilities[row][order][inside], color=BLUE)
        axes.bar(x[~inside], probabilities[row][order][~inside], color="0.6", alpha=0.6)
        true = int(np.flatnonzero(order == truth[row])[0])
        axes.plot(x[true], probabilities[row][truth[row]] + 0.04, "v", color=RED)
        axes.text(place * 8 + 1.0, 0.9, f"{sizes[row]} in the set\nreliability {trust[place]:.2f}", fontsize=7)
        axes.text(place * 8 - 0.2, -0.09, " ".join(f"{digit}  " for digit in order), fontsize=7)
    axes.set(ylim=(0, 1.1), xticks=[], ylabel="probability")


def promise(axes: Axes) -> None:
    """Coverage of single calibration sets: theoretical beta distribution and 2,000 draws."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.78, 1, 400)
    for n, colour in ((50, RED), (200, GREEN), (1000, BLUE)):
        scores = np.sort(rng.random((2000, n)), axis=1)
        rank = int(np.ceil((n + 1) * (1 - ALPHA)))
        axes.hist(scores[:, rank - 1], bins=40, density=True, color=colour, alpha=0.35)
        axes.plot(x, beta(rank, n + 1 - rank).pdf(x), color=colour, label=f"N = {n}")
    axes.axvline(1 - ALPHA, color="0.5", linewidth=1)
    axes.legend(frameon=False)
    axes.set(xlabel="coverage of one calibration set", ylabel="density", xlim=(0.78, 1))


def one_problem(axes: Axes) -> None:
    """Reliability of a strong, a weak and a noisy modality."""
    clean, weak = (_reliability(view) for view in ("kar", "mor"))
    noisy = _reliability("kar", noise=1.5)
    bins = np.linspace(0, 1, 11)
    names = (("strong, clean", clean, BLUE), ("weak, clean", weak, GREEN), ("strong, with noise", noisy, RED))
    for place, (name, values, colour) in enumerate(names):
        counts = np.histogram(values, bins)[0] / len(values)
        label = f"{name}: mean {values.mean():.2f}"
        axes.bar(bins[:-1] + 0.02 + 0.028 * place, counts, 0.026, color=colour, label=label, align="edge")
    axes.legend(frameon=False)
    axes.set(xlabel="reliability of the true class", ylabel="fraction of test rows")


def staleness(axes: Axes) -> None:
    """Coverage during training, with q̂ refreshed every K steps."""
    for every, colour in ((1, BLUE), (20, GREEN), (80, RED)):
        covered = _learning(every)
        axes.plot(
            np.arange(len(covered)),
            covered,
            color=colour,
            label=f"q̂ every {every} steps" if every > 1 else "every step",
        )
    axes.axhline(1 - ALPHA, color="0.5", linewidth=1)
    axes.legend(frameon=False, loc="lower right")
    axes.set(xlabel="training step", ylabel="coverage of test rows", ylim=(0.75, 1.01))


def broken(axes: Axes) -> None:
    """Coverage on a stream with a failing sensor, split and adaptive."""
    calibration, labels = _digits("kar")[0]
    probabilities, truth = _failing()
    split = SplitClassifier(LAC(), alpha=ALPHA)
    split.calibrate(calibration, labels)
    fixed = split.predict(probabilities)
    online = OnlineClassifier(LAC(), memory=Window(200), level=ACI(alpha=ALPHA, gamma=0.03))
    online.calibrate(calibration, labels)
    adaptive = []
    for row, label in zip(probabilities, truth.tolist(), strict=True):
        adaptive.append(online.predict(row))
        online.update(row, label)
    for sets_, name, colour in ((fixed, "split", RED), (np.array(adaptive), "adaptive (ACI)", BLUE)):
        hits = sets_[np.arange(len(truth)), truth]
        size = set_size(sets_)[len(truth) // 2 :].mean()
        axes.plot(
            rolling_coverage(hits, window=150), color=colour, label=f"{name}: {size:.1f} classes per set at the end"
        )
    axes.axhline(1 - ALPHA, color="0.5", linewidth=1)
    axes.axvline(len(truth) / 4, color="0.5", linewidth=1, linestyle=":")
    axes.legend(frameon=False, loc="lower left")
    axes.set(
        xlabel="row of the stream (noise grows from the dotted line)",
        ylabel="coverage of the last 150 rows",
        ylim=(0, 1.02),
    )


def bad_rows(axes: Axes) -> None:
    """Test accuracy by epoch with 40 % wrong labels."""
    rows = _measured("bad-rows-handwritten-course")
    names = {
        "neither": ("joint + unimodal", RED, "-"),
        "CPSC": ("CPSC", PINK, "-"),
        "neither, label": ("joint + unimodal, label", BLUE, "-"),
        "CPSC, label": ("CPSC, label", GREEN, "-"),
    }
    for variant, (name, colour, line) in names.items():
        of = [row for row in rows if row["variant"] == variant and row["condition"] == "symmetric, 40 %"]
        axes.plot([int(r["epoch"]) for r in of], [float(r["test"]) for r in of], line, color=colour, label=name)
    axes.axvline(5, color="0.5", linewidth=1, linestyle=":")
    axes.set(xlabel="epoch (dotted line: end of warm-up)", ylabel="accuracy on test rows, %", ylim=(30, 100))
    axes.legend(frameon=False, loc="lower left")


def shift(axes: Axes) -> None:
    """Rolling coverage on av-digits, audio of an unknown speaker, by predictor."""
    rows = _measured("stream-speaker")
    names = {"split": ("split", RED), "aci": ("ACI", BLUE), "saocp": ("SAOCP", GREEN)}
    for predictor, (name, colour) in names.items():
        of = [row for row in rows if row["predictor"] == predictor]
        axes.plot([int(r["row"]) for r in of], [float(r["coverage"]) for r in of], color=colour, label=name)
    axes.axhline(1 - ALPHA, color="0.5", linewidth=1)
    axes.set(xlabel="row of the stream", ylabel="coverage of the last 100 rows", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")


def fading(axes: Axes) -> None:
    """Trust in two views over a stream in which one fades, with the row of the alarm."""
    views = ("fou", "zer")
    inputs, labels = {view: _data(view)[0] for view in views}, _data("fou")[1]
    known, novelty, trust = watched(inputs, labels, {view: _weights(view)[-1] for view in views}, fades="fou")
    rows, window = len(trust["fou"]), 50
    for (view, values), colour in zip(trust.items(), (RED, BLUE), strict=True):
        means = np.convolve(values, np.full(window, 1 / window), "valid")
        label = f"{view} (noise from row {rows // 2})" if view == "fou" else view
        axes.plot(np.arange(window, rows + 1), means, color=colour, label=label)
        test = ExchangeabilityTest(delta=0.01 / len(views))
        test.calibrate(known[view])
        alarm = next((row for row, score in enumerate(novelty[view].tolist(), 1) if test.update(score)), None)
        if alarm is not None:
            axes.plot([alarm], [1.06], "v", color=colour, clip_on=False)
            axes.text(alarm + 8, 1.06, f"alarm: {view}, row {alarm}", color=colour, va="center")
    axes.axvline(rows / 2, color="0.5", linewidth=1, linestyle=":")
    axes.legend(frameon=False, loc="lower left")
    axes.set(xlabel="row of the stream", ylabel=f"trust, mean of {window} rows", xlim=(0, None), ylim=(0, 1.12))


def corruptions(axes: Axes) -> None:
    """One digit under each kind of noise at five levels, below the digit."""
    dataset = HandwrittenConfig().load()
    modality, row = dataset.modalities["pix"], np.array([1005])
    clean, sample = dataset.read("pix", row), [dataset.ids[row[0]]]
    kinds = fitting("pix", modality)
    height, width = clean.shape[-2:]
    canvas = np.full((6 * (height + 2), len(kinds) * (width + 2)), np.nan)
    for column, kind in enumerate(kinds):
        images = [clean]
        for severity in KINDS[kind].levels_of(modality):
            noise = Noise(modality="pix", kind=kind, severity=severity)
            images.append(noise.of_inputs(clean, sample, modality, Unscaled()))
        for level, image in enumerate(images):
            top, left = level * (height + 2), column * (width + 2)
            canvas[top : top + height, left : left + width] = image[0, 0]
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=6, aspect="auto", interpolation="nearest")
    axes.set_xticks((np.arange(len(kinds)) + 0.5) * (width + 2) - 1.5, kinds, fontsize=7)
    axes.set_yticks((np.arange(6) + 0.5) * (height + 2) - 1.5, ["clean", 1, 2, 3, 4, 5])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(ylabel="level")


PICTURES = {
    "quantile": quantile,
    "sets": sets,
    "promise": promise,
    "one-problem": one_problem,
    "staleness": staleness,
    "broken": broken,
    "bad-rows": bad_rows,
    "shift": shift,
    "fading": fading,
    "corruptions": corruptions,
}


def draw(folder: Path) -> list[Path]:
    """Draw all figures in both themes and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in PICTURES.items():
        for theme, colours in THEMES.items():
            ink = dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), colours["ink"]
            )
            with rc_context({**ink, "font.size": 8.5, "svg.fonttype": "path", "svg.hashsalt": name}):
                figure = Figure(figsize=(6.4, 2.7), layout="constrained")
                FigureCanvasAgg(figure)
                axes = figure.add_subplot(facecolor="none")
                picture(axes)
                for side in ("top", "right"):
                    axes.spines[side].set_visible(False)
                path = folder / f"{name}-{theme}.svg"
                figure.savefig(path, transparent=True, metadata={"Date": None})
                written.append(path)
    return written


@cache
def _measured(name: str) -> list[dict[str, str]]:
    """Return the rows of a file in `studies/results`."""
    with (MEASURED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _data(view: str) -> tuple[np.ndarray, np.ndarray]:
    data = HandwrittenConfig(modalities=(view, "pix")).load()
    values = data.read(view, np.arange(len(data.labels))).reshape(len(data.labels), -1).astype(float)
    order = np.random.default_rng(0).permutation(len(values))
    values = values[order]
    return (values - values[:800].mean(0)) / (values[:800].std(0) + 1e-9), np.asarray(data.labels)[order]


@cache
def _weights(view: str, steps: int = 300) -> np.ndarray:
    """Return (steps + 1, d + 1, C): multinomial logistic regression on 800 rows, by gradient descent."""
    x, y = _data(view)
    x, target = _with_one(x[:800]), np.eye(10)[y[:800]]
    path = [np.zeros((x.shape[1], 10))]
    for _ in range(steps):
        path.append(path[-1] - 0.5 * x.T @ (_softmax(x @ path[-1]) - target) / len(x))
    return np.stack(path)


def _digits(view: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return probabilities and labels of 400 calibration rows and 800 test rows."""
    x, y = _data(view)
    p = _softmax(_with_one(x) @ _weights(view)[-1])
    return (p[800:1200], y[800:1200]), (p[1200:], y[1200:])


def _reliability(view: str, noise: float = 0.0) -> np.ndarray:
    (calibration, labels), _ = _digits(view)
    qhat = conformal_quantile(1 - calibration[np.arange(len(labels)), labels], alpha=ALPHA)
    x, y = _data(view)
    inputs = x[1200:] + noise * np.random.default_rng(1).standard_normal(x[1200:].shape)
    return rank_reliability(LAC()(_softmax(_with_one(inputs) @ _weights(view)[-1])), y[1200:], qhat)


def _learning(every: int) -> np.ndarray:
    x, y = _data("fou")
    covered = []
    for step, weights in enumerate(_weights("fou", 160)):
        p = _softmax(_with_one(x[800:]) @ weights)
        if step % every == 0:
            qhat = conformal_quantile(1 - p[np.arange(400), y[800:1200]], alpha=ALPHA)
        sets_ = prediction_set(LAC()(p[400:]), qhat)
        covered.append(sets_[np.arange(800), y[1200:]].mean())
    return np.array(covered)


def _failing() -> tuple[np.ndarray, np.ndarray]:
    x, y = _data("kar")
    rows = np.tile(np.arange(1200, 2000), 3)
    growing = np.clip(np.linspace(-0.6, 1.8, len(rows)), 0, None)[:, None]
    inputs = x[rows] + growing * np.random.default_rng(2).standard_normal((len(rows), x.shape[1]))
    return _softmax(_with_one(inputs) @ _weights("kar")[-1]), y[rows]


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


if __name__ == "__main__":
    print("\n".join(map(str, draw(Path(sys.argv[1])))))
