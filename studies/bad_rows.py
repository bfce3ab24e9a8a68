"""Training on bad rows: noise on some inputs, or wrong labels, with and without RSC, GSC and row weights.

    python studies/bad_rows.py --seeds 0..4 --out runs/bad-rows
    python studies/bad_rows.py --recipe av-digits --root data/av-digits --seeds 0..2 --out runs/bad-rows

Training, calibration and validation rows are affected, test rows are not. `selected` is the test accuracy of the epoch
that is best on the validation rows, bad ones included; `last` is the mean over the last five epochs, without selection.
AUC: how well the row weights separate bad from good training rows, in the first and in the last epoch with weights.
Finished runs in the folder are reused; CSV files beside it hold all runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _tables import difference, header, write_csv

from cpsc_train import RunConfig
from cpsc_train.config import apply_settings
from cpsc_train.evaluation import metrics
from cpsc_train.experiments.grid import parse_seeds
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

LAST = 5
"""Epochs whose mean is `last`."""
NOISE = 'corruption.noise=[{modality="%s",kind="gaussian",severity=%g,share=%g}]'


def conditions(first: str, severity: float) -> dict[str, list[str]]:
    """Return the settings of each condition."""
    return {
        "clean": [],
        f"{first} noisy, 40 %": [NOISE % (first, severity, 0.4)],
        "symmetric, 20 %": ["corruption.label_share=0.2"],
        "symmetric, 40 %": ["corruption.label_share=0.4"],
        "asymmetric, 30 %": ["corruption.label_share=0.3", "corruption.labels=asymmetric"],
    }


PLAIN = ["method.parts=neither"]
BOTH = ["method.parts=both"]
VARIANTS: dict[str, list[str]] = {
    "neither": PLAIN,
    "GSC": ["method.parts=gsc"],
    "RSC": ["method.parts=rsc"],
    "CPSC": BOTH,
    "CPSC, heads on features": [*BOTH, "method.heads_learn_on=features"],
    "neither, label": [*PLAIN, "method.trust=label"],
    "CPSC, label": [*BOTH, "method.trust=label"],
}


def trained(job: tuple[dict[str, Any], Path]) -> dict[str, Any]:
    """Return the accuracy and the AUC of each epoch of a run, from its file if there is one."""
    table, kept = job
    if not kept.exists():
        config = RunConfig.from_plain(table)
        with config.compute.applied():
            found = _epochs(config)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    read: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return read


def _epochs(config: RunConfig) -> dict[str, Any]:
    trainer = Trainer(Setup.build(config))
    found: dict[str, list[Any]] = {"test": [], "validation": [], "selectable": [], "auc": []}
    while trainer.epoch < config.epochs:
        found["selectable"].append(not trainer.warming_up)
        trainer.train_epoch(Observer())
        found["validation"].append(trainer.validate()["accuracy"][FUSED])
        found["test"].append(trainer.evaluator().collect("test").each(metrics.accuracy)[FUSED])
        found["auc"].append(dict(_detected(trainer)))
    return found


def _detected(trainer: Trainer) -> Iterator[tuple[str, float]]:
    """Yield, for each head, the probability that a bad row weighs less than a good one; ties count one half."""
    from scipy.stats import mannwhitneyu  # noqa: PLC0415

    setup, trust = trainer.setup, getattr(trainer.objective.method, "trust", None)
    if trust is None or trainer.epoch <= trainer.objective.method.warmup:
        return
    rows = setup.splits.train
    weights = {head: w.cpu().numpy() for head, w in trust.weights().items()}
    wrong = setup.dataset.labels[rows] != setup.intact[rows]
    bad = {FUSED: wrong} if wrong.any() else {}
    ids = [setup.dataset.ids[row] for row in rows]
    bad |= {noise.modality: noise.hits(ids) for noise in setup.config.corruption.noise}
    for head, hit in bad.items():
        w = weights[head]
        yield head, float(mannwhitneyu(w[~hit], w[hit]).statistic / ((~hit).sum() * hit.sum()))


def figures(run: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a run, in %."""
    selectable = np.flatnonzero(run["selectable"])
    best = selectable[int(np.argmax(np.array(run["validation"])[selectable]))]
    found = {"selected": 100 * run["test"][best], "last": 100 * float(np.mean(run["test"][-LAST:]))}
    seen = [next(iter(auc.values())) for auc in run["auc"] if auc]
    return found | ({"AUC first": seen[0], "AUC last": seen[-1]} if seen else {})


def written(folder: Path, runs: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    """Write every run, and the mean course of the test accuracy over seeds, as CSV files."""
    columns = ["selected", "last", "AUC first", "AUC last"]
    lines = [
        [*job, *(f"{found[column]:.4g}" if column in found else "" for column in columns)]
        for job, found in ((job, figures(run)) for job, run in runs.items())
    ]
    write_csv(folder.with_suffix(".csv"), ["condition", "variant", "seed", *columns], lines)
    courses: dict[tuple[str, str], list[list[float]]] = {}
    for (condition, variant, _), run in runs.items():
        courses.setdefault((condition, variant), []).append(run["test"])
    lines = [
        [*of, epoch, f"{100 * mean:.4g}"]
        for of, course in courses.items()
        for epoch, mean in enumerate(np.mean(course, 0), 1)
    ]
    write_csv(folder.with_name(f"{folder.name}-course.csv"), ["condition", "variant", "epoch", "test"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="handwritten")
    parser.add_argument("--root", default=None)
    parser.add_argument("--severity", type=float, default=None, help="σ of the noise; 2, or 1 for av-digits")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--conditions", nargs="+", type=int, default=None, help="numbers in the list; all if absent")
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/bad-rows"))
    given = parser.parse_args()
    base = recipe(given.recipe)
    first = base.data.modalities[0]
    base = apply_settings(base, [f"data.root={given.root}"] if given.root else [])
    severity = given.severity or (1.0 if given.recipe == "av-digits" else 2.0)
    damage = conditions(first, severity)
    names = list(damage) if given.conditions is None else [list(damage)[i] for i in given.conditions]
    seeds = parse_seeds(given.seeds)

    def job(condition: str, variant: str, seed: int) -> tuple[dict[str, Any], Path]:
        changes = [f"seed={seed}", "noise=[]", *damage[condition], *VARIANTS[variant]]
        place = f"{condition}-{variant}".replace(" ", "_").replace("%", "").replace(",", "")
        return apply_settings(base, changes).to_plain(), given.out / given.recipe / place / f"{seed}.json"

    every = itertools.product(names, given.variants, seeds)
    jobs = {one: job(*one) for one in sorted(every, key=lambda one: one[2])}  # seed by seed
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        runs = dict(zip(jobs, pool.map(trained, jobs.values()), strict=True))
    written(given.out / given.recipe, runs)
    for condition in names:
        print(f"\n{given.recipe}, {condition}, {len(seeds)} seeds\n")
        print(header("", "selected", "against neither", "last", "against neither", "AUC first", "AUC last"))
        shown = {v: [figures(runs[condition, v, seed]) for seed in seeds] for v in given.variants}
        plain = shown.get("neither")
        for variant, found in shown.items():
            cells = []
            for column in ("selected", "last"):
                values = [one[column] for one in found]
                cells.append(f"{np.mean(values):.1f}")
                if plain is None or variant == "neither":
                    cells.append("")
                else:
                    cells.append(difference(values, [one[column] for one in plain]))
            cells += [
                f"{np.mean([one[column] for one in found]):.2f}" if column in found[0] else ""
                for column in ("AUC first", "AUC last")
            ]
            print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
