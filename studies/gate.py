"""Effect of the conformal gate: the same trained models with and without it, paired by seed.

    python studies/gate.py --modalities pix,fou --seeds 0..9 --out runs/gate
    python studies/gate.py --recipe av-digits --root data/av-digits --seeds 0..9 --out runs/gate
    python studies/gate.py --recipe av-digits --root data/av-digits --set data.split=speaker --out runs/speaker

Finished runs in the folder are reused; a CSV file beside them holds every seed. Differences are means over seeds with
the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _tables import difference, header, write_csv

from cpsc_train import RunConfig, evaluate, train
from cpsc_train.config import apply_settings
from cpsc_train.data import Noise
from cpsc_train.experiments.grid import parse_seeds
from cpsc_train.models import FUSED, GateConfig
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder

PROTOCOLS = "protocols=['strict:GS@5,10','qmf:GS@10']"
"""Noise on all modalities at once, at two levels, and on each sample and modality with probability one half."""
COLUMNS = ("plain", "gated", "ece", "ece gated")
"""Columns of the CSV file, in %."""


def measured(folder: Path, config: RunConfig, distance: str) -> dict[str, Any]:
    """Return the results of a run with a gate; the run is trained if it does not exist."""
    run = RunFolder(folder)
    if run.read_results() is None:
        train(config, run)
    kept = folder / f"gate-{distance}.json"
    if not kept.exists():
        kept.write_text(json.dumps(evaluate(run, gate=GateConfig(distance=distance))), encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found["test"]


def dead(modality: str) -> Noise:
    """Return the condition in which a sensor delivers zeros without a warning."""
    return Noise(modality=modality, kind="dropout", severity=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="handwritten")
    parser.add_argument("--modalities", default=None)
    parser.add_argument("--root", default=None)
    parser.add_argument("--methods", default="joint-unimodal,cpsc")
    parser.add_argument("--distance", default="classes", choices=["classes", "all"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration")
    parser.add_argument("--seeds", default="0..9")
    parser.add_argument("--out", type=Path, default=Path("runs/gate"))
    given = parser.parse_args()
    modalities = None if given.modalities is None else tuple(given.modalities.split(","))
    base = recipe(given.recipe, modalities=modalities)
    name = given.recipe if modalities is None else "-".join(modalities)
    for method in given.methods.split(","):
        rows: dict[str, dict[str, list[float]]] = {}
        lines = []
        for seed in parse_seeds(given.seeds):
            changes = [f"method.name={method}", f"seed={seed}", PROTOCOLS]
            changes += [f"data.root={given.root}"] if given.root else []
            config = apply_settings(base, [*changes, *given.set])
            config = replace(config, noise=(*config.noise, *map(dead, config.data.modalities)))
            folder = given.out / f"{name}-{method}-{seed}"
            plain, gated = (measured(folder, config, distance) for distance in ("off", given.distance))
            for condition, before in plain.items():
                row, after = rows.setdefault(condition, {}), gated[condition]
                row.setdefault("plain", []).append(100 * before["accuracy"][FUSED])
                row.setdefault("gated", []).append(100 * after["accuracy"][FUSED])
                row.setdefault("ece", []).append(100 * before["expected_calibration_error"][FUSED])
                row.setdefault("ece gated", []).append(100 * after["expected_calibration_error"][FUSED])
                for m, seen in after["gate"].items():
                    row.setdefault(f"down {m}", []).append(100 * seen["down_weighted"])
                lines.append([condition, seed, *(f"{row[key][-1]:.4g}" for key in COLUMNS)])
        write_csv(given.out / f"{name}-{method}.csv", ["condition", "seed", *COLUMNS], lines)
        print(f"\n{name}, {method}, {len(next(iter(rows.values()))['plain'])} seeds\n")
        downs = [key for key in next(iter(rows.values())) if key.startswith("down")]
        weights = [key.replace("down", "down-weighted:") for key in downs]
        print(header("", "without", "with", "difference", "ECE", "with", *weights))
        for condition, row in rows.items():
            cells = [f"{np.mean(row['plain']):.1f}", f"{np.mean(row['gated']):.1f}"]
            cells.append(difference([b - a for a, b in zip(row["plain"], row["gated"], strict=True)]))
            cells += [f"{np.mean(row[key]):.1f}" if key in row else "" for key in ("ece", "ece gated", *downs)]
            print(f"| {condition} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
