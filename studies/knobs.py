"""Effect of the options t0, α, n, K, λ1, λ2, γ, a and b of CPSC: a designed sweep, and one setting for all data.

    python studies/knobs.py --workloads pix,fou fou,zer av-digits --root data/av-digits --out runs/knobs

Each workload is trained 81 times, in a design of resolution IV: every factor has three levels, every combination of
the levels of any *three* factors occurs equally often, so that no main effect is mixed with an interaction of two.
The accuracy that is decomposed is the mean over the clean and the noisy conditions. Levels are chosen on validation
rows, for each workload (`tuned`) and for all of them together (`shared`); both are then trained anew beside the
defaults, with new seeds, and compared on test rows. Finished runs in the folder are reused; a CSV file beside each
sweep holds its runs.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _tables import header, write_csv
from numpy.typing import NDArray
from scipy import stats

from cpsc_train import RunConfig
from cpsc_train.config import apply_settings
from cpsc_train.errors import UserError
from cpsc_train.experiments.grid import Grid, parse_seeds
from cpsc_train.experiments.statistics import paired_difference
from cpsc_train.models import FUSED
from cpsc_train.output import Output
from cpsc_train.recipes import recipe

Values = NDArray[np.float64]
GAMMAS = (0.1, 0.3, 0.5, 0.9)
"""Of the comparison of divergences."""

LEVELS: dict[str, tuple[float, float, float]] = {
    "t0": (0.05, 0.25, 0.5),  # fraction of the epochs
    "α": (0.02, 0.1, 0.3),
    "n": (5, 10, 20),
    "K": (0, 0.3, 1),  # fraction of the components, at least one
    "λ1": (0, 0.8, 3.2),
    "λ2": (0, 0.2, 0.8),
    "γ": (0.1, 0.3, 0.9),
    "a": (0, 0.6, 1.2),
    "b": (0.2, 0.6, 1.2),
    "seed": (0, 1, 2),
}


def design() -> NDArray[np.int64]:
    """Return the levels (81, 10): products, modulo 3, of all vectors with the points of an elliptic quadric.

    The quadric xy + z² + w² = 0 of the projective space over three elements has ten points, no three on a line: with
    one column per point, any three columns hold all 27 combinations three times.
    """
    vectors = np.array(list(itertools.product(range(3), repeat=4)))
    x, y, z, w = vectors.T
    on = vectors[(x * y + z * z + w * w) % 3 == 0]
    points = np.array([p for p in on if p.any() and p[p != 0][0] == 1])  # one of the two vectors of a point
    found: NDArray[np.int64] = vectors @ points.T % 3
    return found


def settings(levels: dict[str, float], epochs: int) -> list[str]:
    """Return ``key=value`` of a row of the design."""
    n = int(levels["n"])
    values: dict[str, float] = {
        "method.warmup": max(1, round(levels["t0"] * epochs)),
        "conformal.alpha": levels["α"],
        "method.components": n,
        "method.top_k": max(1, round(levels["K"] * n)),
        "method.consistency": levels["λ1"],
        "method.diversity": levels["λ2"],
        "method.residual": levels["γ"],
        "method.a": levels["a"],
        "method.b": levels["b"],
    }
    return [f"{key}={value}" for key, value in values.items()]


@dataclass(frozen=True)
class Workload:
    """A recipe, its name, and the folder of its runs."""

    name: str
    base: RunConfig
    folder: Path

    def sweep(self, jobs: int, console: Output) -> dict[str, dict[str, Values]]:
        """Train the design; return by part and column the accuracy (81,) in %."""
        rows = design()
        results: list[dict[str, Any]] = []
        for seed in range(3):  # one grid per seed, since a grid crosses variants with seeds
            variants = {
                f"row-{i:02}": self.configured(level)
                for i, level in enumerate(map(_levels, rows))
                if level["seed"] == seed
            }
            found = Grid(self.folder / "sweep", variants, [seed]).run(jobs=jobs, console=console)
            results += [{"row": int(name[4:]), **runs[0]} for name, runs in found.items()]
        results.sort(key=lambda run: run["row"])
        return _by_part(results)

    @property
    def table(self) -> str:
        """Name of the file that holds the sweep."""
        return f"knobs-{self.folder.name}.csv"

    def configured(self, levels: dict[str, float]) -> RunConfig:
        return apply_settings(self.base, settings(levels, self.base.epochs))

    def apart(self, levels: dict[str, float]) -> dict[str, RunConfig]:
        """Return by name the defaults with one level of a set each, where it is another."""
        n = self.base.to_plain()["method"]["components"]
        found = {}
        for name in list(LEVELS)[:-1]:
            alone = settings(levels if name == "n" else levels | {"n": n}, self.base.epochs)[list(LEVELS).index(name)]
            config = apply_settings(self.base, [alone])
            if config != self.base:
                found[f"{name} {levels[name]:g}"] = config
        return found

    def confirm(
        self, sets: dict[str, RunConfig], seeds: list[int], jobs: int, console: Output
    ) -> dict[str, dict[str, dict[str, Values]]]:
        """Train the defaults and other sets with fresh seeds; return accuracies by set, part and column."""
        variants = {"default": self.base, **sets}
        found = Grid(self.folder / "confirm", variants, seeds).run(jobs=jobs, console=console)
        return {name: _by_part(runs) for name, runs in found.items()}

    def divergences(self, seeds: list[int], jobs: int, console: Output) -> None:
        """Print accuracy by divergence and γ; runs stopped by a loss that is not finite are named."""
        print(f"\n{self.name}, test rows, all conditions, {len(seeds)} seeds: mean ± sd (smallest)\n")
        print("| divergence | " + " | ".join(f"γ {gamma:g}" for gamma in GAMMAS) + " |\n|" + "---|" * (len(GAMMAS) + 1))
        for kind in ("kl", "js"):
            cells = []
            for gamma in GAMMAS:
                options = {k: v for k, v in self.base.to_plain()["method"].items() if k != "name"}
                options |= {"match_magnitude": "true", "divergence": kind, "residual": gamma}
                changes = ["method.name=cpsc-literal", *(f"method.{k}={v}" for k, v in options.items())]
                config = apply_settings(self.base, changes)
                found, stopped = [], 0
                for seed in seeds:
                    try:
                        grid = Grid(self.folder / "divergence", {f"{kind}-{gamma:g}": config}, [seed])
                        found += next(iter(grid.run(jobs=jobs, console=console, quiet=True).values()))
                    except UserError as error:
                        console.print(str(error))
                        stopped += 1
                accuracy = _by_part(found)["test"]["all"] if found else np.array([np.nan])
                cell = f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f} ({accuracy.min():.1f})"
                cells.append(cell + (f", {stopped} stopped" if stopped else ""))
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def workload(name: str, root: str | None, out: Path) -> Workload:
    """Return av-digits below `root`, or a pair of views of handwritten."""
    found = recipe("av-digits") if name == "av-digits" else recipe("handwritten", modalities=tuple(name.split(",")))
    if name == "av-digits" and root:
        found = apply_settings(found, [f"data.root={root}"])
    return Workload(name, found, out / name.replace(",", "-"))


def _levels(row: NDArray[np.int64]) -> dict[str, float]:
    return {name: values[level] for (name, values), level in zip(LEVELS.items(), row, strict=True)}


def _by_part(runs: list[dict[str, Any]]) -> dict[str, dict[str, Values]]:
    found: dict[str, dict[str, Values]] = {}
    for part in ("validation", "test"):
        seen = {
            name: np.array([100 * run[part][name]["accuracy"][FUSED] for run in runs])
            for name in runs[0][part]
            if not name.startswith("without-")
        }
        found[part] = {"clean": seen["clean"], "all": np.mean(list(seen.values()), axis=0)}
    return found


def effects(accuracy: Values) -> dict[str, Values]:
    """Return by factor the mean accuracy (3,) at each level."""
    rows = design()
    return {
        name: np.array([accuracy[rows[:, column] == level].mean() for level in range(3)])
        for column, name in enumerate(LEVELS)
    }


def decomposed(accuracy: Values) -> list[tuple[str, float, float]]:
    """Return factor, fraction of the variance in %, and p-value of the F-test; the last row is what remains."""
    total = float(((accuracy - accuracy.mean()) ** 2).sum())
    explained = {name: 27 * float(((means - accuracy.mean()) ** 2).sum()) for name, means in effects(accuracy).items()}
    left, freedom = total - sum(explained.values()), len(accuracy) - 1 - 2 * len(LEVELS)
    found = [
        (name, 100 * part / total, float(stats.f.sf(part / 2 / (left / freedom), 2, freedom)))
        for name, part in explained.items()
    ]
    return [*found, ("interactions and noise", 100 * left / total, float("nan"))]


def best(sweeps: list[Values]) -> dict[str, float]:
    """Return the levels with the largest sum of main effects, over one or more sweeps."""
    chosen: dict[str, float] = {}
    for name, levels in LEVELS.items():
        means = np.sum([effects(sweep)[name] for sweep in sweeps], axis=0)
        chosen[name] = levels[int(means.argmax())]
    return chosen


def written(path: Path, sweep: dict[str, dict[str, Values]]) -> None:
    """Write a row per run: its levels, and its accuracies by part and column."""
    columns = [(part, column) for part, of in sweep.items() for column in of]
    lines = [
        [*(f"{level:g}" for level in _levels(row).values()), *(f"{sweep[part][of][i]:.5g}" for part, of in columns)]
        for i, row in enumerate(design())
    ]
    write_csv(path, [*LEVELS, *(f"{part} {column}" for part, column in columns)], lines)


def read(path: Path) -> dict[str, dict[str, Values]]:
    """Return what `written` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[str, Values]] = {}
    for name in list(rows[0])[len(LEVELS) :]:
        part, column = name.split()
        found.setdefault(part, {})[column] = np.array([float(row[name]) for row in rows])
    return found


def shown(workload: str, accuracy: dict[str, Values], part: str) -> None:
    """Print the decomposition of a sweep."""
    print(f"\n{workload}, {part} rows, mean {accuracy['all'].mean():.1f}, sd {accuracy['all'].std(ddof=1):.2f}\n")
    print("| factor | levels | accuracy at each | fraction of the variance, % | p | clean: at each | fraction, % | p |")
    print("|---" * 8 + "|")
    both = zip(decomposed(accuracy["all"]), decomposed(accuracy["clean"]), strict=True)
    means, clean_means = effects(accuracy["all"]), effects(accuracy["clean"])
    for (name, share, p), (_, clean, clean_p) in both:
        if name not in LEVELS:
            print(f"| {name} | | | {share:.0f} | | | {clean:.0f} | |")
            continue
        levels = " / ".join(f"{level:g}" for level in LEVELS[name])
        at, clean_at = (" / ".join(f"{mean:.1f}" for mean in found[name]) for found in (means, clean_means))
        print(f"| {name} | {levels} | {at} | {share:.0f} | {p:.2g} | {clean_at} | {clean:.0f} | {clean_p:.2g} |")


def confirmed(workload: str, found: dict[str, dict[str, dict[str, Values]]]) -> None:
    """Print a row per set: its accuracies, and paired differences to the defaults."""
    for name, parts in found.items():
        cells = [f"{parts['test'][column].mean():.1f}" for column in ("clean", "all")]
        for column in ("clean", "all"):
            mean, low, high, _ = paired_difference(parts["test"][column], found["default"]["test"][column])
            cells.append("" if name == "default" else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
        print(f"| {workload} | {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["pix,fou", "fou,zer"], help="views, or av-digits")
    parser.add_argument(
        "--also", nargs="*", default=[], help="pairs of views without a sweep, for the shared set alone"
    )
    parser.add_argument(
        "--sweeps", type=Path, metavar="DIR", help="read the sweeps from knobs-*.csv there, train none: studies/results"
    )
    parser.add_argument("--apart", nargs="*", default=[], help="workloads to try each level of the shared set alone on")
    parser.add_argument("--root", default=None, help="where the av-digits data lie")
    parser.add_argument("--seeds", default="10..19", help="of the confirmation")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sweep-only", action="store_true")
    parser.add_argument("--divergences", action="store_true", help="only compare −KL with Jensen–Shannon, by γ")
    parser.add_argument("--out", type=Path, default=Path("runs/knobs"))
    options = parser.parse_args()
    console = Output(file=sys.stderr)
    workloads = [workload(name, options.root, options.out) for name in (*options.workloads, *options.also)]
    if options.divergences:
        for one in workloads:
            one.divergences(parse_seeds(options.seeds), options.jobs, console)
        return
    sweeps = swept(workloads[: len(options.workloads)], options, console)
    shared = best([sweep["validation"]["all"] / sweep["validation"]["all"].std() for sweep in sweeps.values()])
    tuned = {name: best([sweep["validation"]["all"]]) for name, sweep in sweeps.items()}
    print("\n" + json.dumps({"shared": shared, **tuned}, ensure_ascii=False, indent=1))
    if options.sweep_only:
        return
    print("\n" + header("workload", "set", "clean", "all conditions", "against default: clean", "all conditions"))
    for one in workloads:
        sets = {"shared": one.configured(shared)}
        if one.name in tuned:
            sets["tuned"] = one.configured(tuned[one.name])
        if one.name in options.apart:
            sets |= one.apart(shared)
        confirmed(one.name, one.confirm(sets, parse_seeds(options.seeds), options.jobs, console))


def swept(
    workloads: list[Workload], options: argparse.Namespace, console: Output
) -> dict[str, dict[str, dict[str, Values]]]:
    """Return the sweep of each workload, read or trained, and print its decomposition."""
    sweeps = {}
    for one in workloads:
        sweep = read(options.sweeps / one.table) if options.sweeps else one.sweep(options.jobs, console)
        if not options.sweeps:
            written(options.out / one.table, sweep)
        for part, accuracy in sweep.items():
            shown(one.name, accuracy, part)
        sweeps[one.name] = sweep
    return sweeps


if __name__ == "__main__":
    main()
