"""Does trust carry signal? Accuracy with the distances of the right row and modality, and with permuted ones.

    python studies/control.py runs/trust/handwritten/runs runs/trust/scene15/runs

FOLDER is that of the runs which ``trust.py`` made of a data set; its parent's name is that of the data set. Each test
row of each run of joint + unimodal is taken under one of all conditions, drawn at random. Its features are weighted by
trust at its own distances; at those of another row; at those of another modality of the same row; and at no distance,
which is the plain model. Conditions, rows and modalities are permuted `DRAWS` times. Writes trust-control.csv, a line
for each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from _tables import difference, header, write_csv
from numpy.typing import NDArray
from torch import Tensor

from cpsc_rsc import ConformalTrust
from cpsc_train.experiments.stream import fitted_trust
from cpsc_train.models import FUSED
from cpsc_train.training.run import opened

DRAWS = 10
METHOD = "joint-unimodal"
Distances = dict[str, Tensor]
"""By modality, (N,)."""


def own(distances: Distances, _order: Tensor) -> Distances:
    return distances


def of_another_row(distances: Distances, order: Tensor) -> Distances:
    return {m: distance[order] for m, distance in distances.items()}


def of_another_modality(distances: Distances, _order: Tensor) -> Distances:
    names = list(distances)
    return {m: distances[names[place - 1]] for place, m in enumerate(names)}


def none(distances: Distances, _order: Tensor) -> Distances:
    return {m: torch.zeros_like(distance) for m, distance in distances.items()}


WAYS: Mapping[str, Callable[[Distances, Tensor], Distances]] = {
    "plain": none,
    "trust": own,
    "another row": of_another_row,
    "another modality": of_another_modality,
}


def accuracies(folder: Path) -> dict[str, float]:
    """Return the mean accuracy of a run in % by way, over draws of the conditions."""
    with opened(folder, inference=("trust",)) as (setup, evaluator):
        variant = fitted_trust(evaluator)
        if variant is None:
            raise SystemExit(f"{folder}: the run has no variant trust")
        state = variant.state_dict()
        trust = ConformalTrust(state["widths"])
        trust.load_state_dict(state["trust"])
        under = [evaluator.part("test", noise) for noise in [(), *(condition.parts for condition in setup.conditions)]]
        labels, right = torch.from_numpy(under[0].labels), dict.fromkeys(WAYS, 0.0)
        with torch.no_grad():
            distances = [trust.distances({m: _tensors(depths) for m, depths in one.depths.items()}) for one in under]
            for draw in range(DRAWS):
                rng = np.random.default_rng(draw)
                condition = torch.from_numpy(rng.integers(len(under), size=len(labels)))
                order = torch.from_numpy(rng.permutation(len(labels)))
                features = {m: _drawn(_tensors([one.features[m] for one in under]), condition) for m in distances[0]}
                mixed = {m: _drawn([one[m] for one in distances], condition) for m in features}
                for way, change in WAYS.items():
                    weighted = trust.scale(features, trust.weights_at(change(mixed, order)))
                    logits = evaluator.trained().logits(weighted)[FUSED]
                    right[way] += float((logits.argmax(-1) == labels).double().mean()) * 100 / DRAWS
        return right


def _tensors(arrays: Iterable[NDArray[np.float32]]) -> tuple[Tensor, ...]:
    return tuple(map(torch.from_numpy, arrays))


def _drawn(under: Sequence[Tensor], condition: Tensor) -> Tensor:
    """Return each row (N, …) under its condition (N,)."""
    return torch.stack(list(under))[condition, torch.arange(len(condition))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=Path("studies/results"))
    arguments = parser.parse_args()
    lines = []
    print(header("data", *WAYS, *(f"trust − {way}" for way in WAYS if way != "trust")))
    for folder in arguments.folders:
        name, runs = folder.parent.name, sorted((folder / METHOD).glob("**/config.toml"))
        found = [accuracies(run.parent) for run in runs]
        lines += [
            [name, run.parent.name, *(f"{one[way]:.2f}" for way in WAYS)] for run, one in zip(runs, found, strict=True)
        ]
        columns = {way: [one[way] for one in found] for way in WAYS}
        apart = [difference(columns["trust"], columns[way]) for way in WAYS if way != "trust"]
        print(
            f"| {name} | {' | '.join([f'{np.mean(values):.1f}' for values in columns.values()] + apart)} |", flush=True
        )
    write_csv(arguments.results / "trust-control.csv", ["data", "run", *WAYS], lines)


if __name__ == "__main__":
    main()
