"""Reliability of training rows, measured out of sample, as weights of the unimodal cross-entropies.

    python studies/reliability.py                                                             # handwritten
    python studies/reliability.py --benches mvsa-merge --root DIR --features FILE --seeds 0..4

FILE holds the features of all rows of the merge protocol, clean and under noise:

    cpsc data features --recipe mvsa-single-small --root DIR --set data.labels=merge --out FILE \
      --noise image:gaussian@3,5 --noise text:words@3,5 --parts validation,test

A row's reliability is computed by a model that has not fitted this row (five folds), against calibration rows that no
model has fitted. Weights of a modality's cross-entropy have mean 1 over the rows; the fused cross-entropy is weighted
where a kind of weights says so. Two CSV files in ``studies/results``: accuracy by kind of weights, and how each
reliability separates rows whose label is right and wrong for the modality.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from _benches import Bench, handwritten, mvsa_merge
from _members import Members
from _tables import write_csv
from numpy.typing import NDArray
from scipy.stats import rankdata

from conformal_core import LAC, conformal_quantile, p_values
from cpsc_train.experiments.grid import parse_seeds
from cpsc_train.models import FUSED

Values = NDArray[np.float64]
Scores = dict[str, dict[str, Values]]
"""By kind of reliability and modality, (n,)."""
FOLDS = 5
ALPHA = 0.1
SCORE = LAC()
BENCHES = ("clean", "mismatched", "noisy", "mvsa-merge")


class Rated:
    """Probabilities of calibration rows and of some other rows under one model, with its conformal quantities.

    Parameters
    ----------
    modalities
        Their names, in the order of the heads.
    calibration, labels
        Logits (H, n, C) and labels (n,) of the calibration rows.
    """

    def __init__(self, modalities: tuple[str, ...], calibration: Values, labels: NDArray[np.int64]) -> None:
        self.modalities = modalities
        self._calibration, self._labels = calibration, labels

    def reliability(self, logits: Values, labels: NDArray[np.int64]) -> Scores:
        """Return every kind of reliability of rows, from their logits (H, n, C) and given labels (n,)."""
        decided = logits[-1].argmax(-1)
        found: Scores = {name: {} for name in ("ρ", "label", "label p", "others p", "fused p")}
        for head, m in enumerate(self.modalities):
            rest = [place for place in range(len(self.modalities)) if place != head]
            probabilities = _softmax(logits[head])
            qhat = float(conformal_quantile(self._scores(self._calibration[head]), alpha=ALPHA))
            found["ρ"][m] = _array(SCORE.score_and_reliability(probabilities, decided, qhat)[1])
            found["label"][m] = _array(SCORE.score_and_reliability(probabilities, labels, qhat)[1])
            found["label p"][m] = self._p(self._calibration[head], logits[head], labels)
            found["others p"][m] = self._p(self._calibration[rest].mean(0), logits[rest].mean(0), labels)
            found["fused p"][m] = self._p(self._calibration[-1], logits[-1], labels)
        return found

    def limit(self, head: int) -> float:
        """Return the p-value (W + 1)/(N + 1) up to which a head leaves rows out; it gets W of N rows wrong."""
        wrong = int((self._calibration[head].argmax(-1) != self._labels).sum())
        return (wrong + 1) / (len(self._labels) + 1)

    def _p(self, calibration: Values, logits: Values, labels: NDArray[np.int64]) -> Values:
        return _array(p_values(self._scores(calibration), _array(SCORE(_softmax(logits), labels))))

    def _scores(self, calibration: Values) -> Values:
        return _array(SCORE(_softmax(calibration), self._labels))


def rated(bench: Bench, seed: int) -> tuple[Scores, Scores, dict[str, Values]]:
    """Return the reliability of training rows out of sample and in sample, and by head the rows that it keeps."""
    labels = bench.labels["train"].numpy()
    n, modalities = len(labels), tuple(bench.right)
    fold = np.random.default_rng([seed, 1]).permutation(n) % FOLDS
    weights = torch.ones(FOLDS + 1, len(modalities) + 1, n)
    for k in range(FOLDS):
        weights[k, :, torch.from_numpy(fold == k)] = 0
    weights /= weights.mean(-1, keepdim=True)
    members = _fitted(bench, weights, seed)
    calibration = members.logits(bench.inputs["calibration"]).double().numpy()
    logits = members.logits(bench.inputs["train"]).double().numpy()
    by_fold = [Rated(modalities, of, bench.labels["calibration"].numpy()) for of in calibration]
    inside = by_fold[-1].reliability(logits[-1], labels)
    out: Scores = {name: {m: np.zeros(n) for m in modalities} for name in inside}
    kept = {head: np.zeros(n) for head in (*modalities, FUSED)}
    for k in range(FOLDS):
        rows = fold == k
        for name, of in by_fold[k].reliability(logits[k][:, rows], labels[rows]).items():
            for m, values in of.items():
                out[name][m][rows] = values
        for head, m in enumerate(modalities):
            kept[m][rows] = out["label p"][m][rows] > by_fold[k].limit(head)
        kept[FUSED][rows] = out["fused p"][modalities[0]][rows] > by_fold[k].limit(-1)
    return out, inside, kept


def kinds(
    bench: Bench, out: Scores, inside: Scores, kept: dict[str, Values], seed: int
) -> dict[str, Mapping[str, Values]]:
    """Return the weights (n,) by kind and head; a head that is not listed has weights of 1."""
    order = np.random.default_rng([seed, 2]).permutation(len(kept[FUSED]))
    right = {m: of.astype(float) for m, of in bench.right.items()}

    def mapped(of: dict[str, Values], slope: float, offset: float) -> dict[str, Values]:
        return {m: slope * values + offset for m, values in of.items()}

    return {
        "none": {},
        "ρ in sample, .6ρ + .6": mapped(inside["ρ"], 0.6, 0.6),
        "ρ, .6ρ + .6": mapped(out["ρ"], 0.6, 0.6),
        "the same, permuted": {m: values[order] for m, values in mapped(out["ρ"], 0.6, 0.6).items()},
        "inverse, 1.1 − ρ": mapped(out["ρ"], -1, 1.1),
        "reliability of the label + .1": mapped(out["label"], 1, 0.1),
        "p-value of the label + .05": mapped(out["label p"], 1, 0.05),
        "p-value under the others + .05": mapped(out["others p"], 1, 0.05),
        "left out by the fused p-value": dict.fromkeys(kept, kept[FUSED]),
        "left out by the modality's p-value": {m: kept[m] for m in right},
        "the same, and from the fused head": {m: kept[m] for m in right}
        | {FUSED: np.min([kept[m] for m in right], axis=0)},
        "oracle, unimodal": right,
        "oracle, unimodal and fused": right | {FUSED: np.min(list(right.values()), axis=0)},
    }


def accuracies(bench: Bench, weights: dict[str, Mapping[str, Values]], seed: int) -> Iterator[list[object]]:
    """Yield kind, chosen epoch, and accuracy in %: clean, mean over noisy conditions, and clean of each modality."""
    heads = (*bench.right, FUSED)
    ones = np.ones(len(bench.labels["train"]))
    stacked = np.stack([[of.get(head, ones) for head in heads] for of in weights.values()])
    table = torch.from_numpy(stacked / stacked.mean(-1, keepdims=True)).float()
    constant = torch.ones(1, *table.shape[1:])
    constant[:, :-1] = 1.2
    members = _fitted(bench, torch.cat([table, constant]), seed)
    labels = bench.labels["test"]

    def accuracy(inputs: Mapping[str, torch.Tensor]) -> Values:
        return 100 * _array((members.logits(inputs).argmax(-1) == labels).double().mean(-1))

    clean = accuracy(bench.inputs["test"])
    noisy = np.mean([accuracy(inputs)[:, -1] for inputs in bench.noisy.values()], axis=0)
    for place, kind in enumerate([*weights, "constant 1.2"]):
        figures = [clean[place, -1], noisy[place], *clean[place, :-1]]
        yield [kind, *(f"{figure:.4g}" for figure in figures)]


def separations(bench: Bench, out: Scores, inside: Scores) -> Iterator[list[object]]:
    """Yield kind, modality, mean, standard deviation, fraction at 1 and at 0, and AUROC of right over wrong rows."""
    every = {"ρ in sample": inside["ρ"], "label, in sample": inside["label"]} | out
    for kind, of in every.items():
        for m, values in of.items():
            figures = [values.mean(), values.std(), (values == 1).mean(), (values == 0).mean()]
            yield [kind, m, *(f"{figure:.4g}" for figure in figures), f"{auroc(values, bench.right[m]):.4g}"]


def auroc(values: Values, right: NDArray[np.bool_]) -> float:
    """Return the probability that a right row has a larger value than a wrong one; ties count one half."""
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _fitted(bench: Bench, weights: torch.Tensor, seed: int) -> Members:
    members = Members(
        bench.inputs["train"],
        bench.labels["train"],
        weights,
        classes=bench.classes,
        hidden=bench.hidden,
        seed=seed,
    )
    validation = bench.inputs["validation"], bench.labels["validation"]
    members.fit(validation, epochs=bench.epochs, batch_size=bench.batch_size)
    return members


def _softmax(logits: Values) -> Values:
    return torch.from_numpy(logits).softmax(-1).numpy()


def _array(values: object) -> Values:
    return np.asarray(values, dtype=float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benches", nargs="+", default=list(BENCHES[:-1]), choices=BENCHES)
    parser.add_argument("--root", default="data/mvsa-single")
    parser.add_argument("--features", default="features.npz")
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--out", type=Path, default=Path("studies/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.benches:
        accuracy: list[list[object]] = []
        rows: list[list[object]] = []
        for seed in parse_seeds(options.seeds):
            if name == "mvsa-merge":
                bench = mvsa_merge(options.root, options.features, seed)
            else:
                bench = handwritten(name, seed)
            out, inside, kept = rated(bench, seed)
            rows += [[seed, *line] for line in separations(bench, out, inside)]
            weights = kinds(bench, out, inside, kept, seed)
            accuracy += [[seed, f"{bench.overlap:g}", *line] for line in accuracies(bench, weights, seed)]
            print(name, seed, flush=True)
            columns = ["seed", "overlap", "weights", "clean", "noisy", *bench.right]
            write_csv(options.out / f"reliability-{name}.csv", columns, accuracy)
            columns = ["seed", "reliability", "modality", "mean", "sd", "one", "zero", "auroc"]
            write_csv(options.out / f"reliability-{name}-rows.csv", columns, rows)


if __name__ == "__main__":
    main()
