"""Compare variants of a run over several seeds: mean ± standard deviation of the accuracy, by condition and head.

Two tables: on validation rows, where options are chosen, and on test rows, where the choice is reported; "all" is the
mean of the fused accuracy over all conditions. Each run is `cpsc train` in a folder of its own; a finished one is not
run again, so an interrupted comparison goes on where it stopped. `--help` lists the options.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def options(**values: str) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


LITERAL = options(method__residual="1.0", method__divergence="kl", method__inference="features")
VARIANTS = {
    "joint CE": ["--method", "joint"],
    "joint + unimodal CE": ["--method", "joint-unimodal"],
    "CPSC (default)": [],
    "RSC only": options(method__gsc="false"),
    "GSC only": options(method__rsc="false"),
    "features at inference": options(method__inference="features"),
    "mean at inference": options(method__inference="mean"),
    "heads learn on h": options(method__heads_learn_on="features"),
    "calibrate on components": options(method__calibrate_on="components"),
    "calibrate on recomposed": options(method__calibrate_on="recomposed"),
    "rolling refresh": options(conformal__refresh="rolling"),
    "epoch refresh": options(conformal__refresh="epoch"),
    "KL": options(method__divergence="kl"),
    "literal": LITERAL,
    "literal, mean": [*LITERAL, *options(method__inference="mean")],
    "literal, heads on h": [*LITERAL, *options(method__heads_learn_on="features")],
}


def run(folder: Path, options: list[str], seed: int) -> None:
    if (folder / "results.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "cpsc_train", "train", "-q", "--out", str(folder), "--seed", str(seed), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})


def table(results: dict[str, list[dict]], part: str) -> str:
    first = next(iter(results.values()))[0]
    heads = [*first["data"]["modalities"], "fused"]
    columns = [(name, head) for name in first[part] for head in (heads if name == "clean" else ["fused"])]
    names = [f"{name} {head}" if name == "clean" else name for name, head in columns]
    head = [part, *names, "all", "coverage", "seconds"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant, runs in results.items():
        accuracy = np.array([[100 * r[part][name]["accuracy"][head] for name, head in columns] for r in runs])
        fused = accuracy[:, [head == "fused" for _, head in columns]].mean(1)
        cells = [mean_sd(values, ".1f") for values in (*accuracy.T, fused)]
        cells.append(mean_sd([r["coverage"][part]["fused"]["coverage"] for r in runs], ".3f"))
        cells.append(f"{np.median([r['seconds'] for r in runs]):.0f}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_sd(values: Sequence[float], form: str) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} ± {spread:{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N-1")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="which ones")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("options", nargs="*", help="options of `cpsc train` for every run, after --")
    arguments = parser.parse_args()
    folders = {
        (variant, seed): arguments.out / f"{variant.replace(' ', '_').replace(',', '')}-seed{seed}"
        for seed in range(arguments.seeds)
        for variant in arguments.variants
    }
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [
            pool.submit(run, folder, [*VARIANTS[variant], *arguments.options], seed)
            for (variant, seed), folder in folders.items()
        ]
        for done, job in enumerate(jobs, 1):
            job.result()
            print(f"{done}/{len(jobs)} runs", file=sys.stderr)
    results = {
        variant: [
            json.loads((folders[variant, seed] / "results.json").read_text(encoding="utf-8"))
            for seed in range(arguments.seeds)
        ]
        for variant in arguments.variants
    }
    print(table(results, "validation"), table(results, "test"), sep="\n\n")


if __name__ == "__main__":
    main()
