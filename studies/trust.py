"""Trust at inference: the same trained models with and without it, beside rivals, under seen and held-out noise.

    python studies/trust.py --data handwritten
    python studies/trust.py --data nyu-depth-v2 --root FILE.npz --jobs 2
    python studies/trust.py --data handwritten --commands               # prints the command, runs none

DATA is a name of `_data.DATA`. A run is one training on a division of its own, and each inference variant is applied to
its model. Options are those that ``comparison.py`` chose on validation rows of division 0, where its results hold them
(``comparison-DATA-tuned.toml``), else the defaults. Besides the conditions of the comparison, all modalities are
corrupted at once at the highest level, by the seen kinds and by held-out ones. The results are written to --results as
``trust-DATA.csv.gz``, a line for each run, inference variant and condition, and the processor time and command to
``trust-costs.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from _data import DATA, Data
from _tables import pack, record_cost

METHODS = "joint,joint-unimodal,tmc,ecml,eau,iprm,modality-dropout"
AUGMENTED = 0.3
"""Fraction of training rows of a modality that the row *augmented* corrupts."""


def benchmark(data: Data, arguments: argparse.Namespace, out: Path) -> list[str]:
    """Return the command that trains and evaluates all rows."""
    protocols = [*data.protocols(), data.together(5), data.together(5, held_out=True)]
    rows = f"--variant=joint-unimodal, augmented: method.name=joint-unimodal {data.augmentation(AUGMENTED)}"
    tuned = ("--tuned", str(out / "tune")) if (out / "tune").exists() else ()
    chosen = ("--methods", arguments.methods, rows, *tuned, "--reference", "joint-unimodal")
    runs = ("--divisions", "each", "--seeds", arguments.seeds, "--inference", arguments.inference)
    shared = data.command(arguments.root, arguments.jobs, protocols)
    return ["benchmark", "--keep-going", *shared, *chosen, *runs, "--out", str(out / "runs")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=["handwritten"])
    parser.add_argument("--root", help="file or folder of the data set")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", default="0..4", help="each has a division of its own")
    parser.add_argument("--inference", default="trust,read:lr=0.003,dasp")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/trust"))
    parser.add_argument("--results", type=Path, default=Path("studies/results"))
    parser.add_argument("--commands", action="store_true", help="only print the commands")
    arguments = parser.parse_args()
    for name in arguments.data:
        out = arguments.out / name
        tuned = arguments.results / f"comparison-{name}-tuned.toml"
        if tuned.exists():
            (out / "tune").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tuned, out / "tune" / "tuned.toml")
        command = benchmark(DATA[name], arguments, out)
        print("cpsc", shlex.join(command), flush=True)
        if not arguments.commands:
            subprocess.run([sys.executable, "-m", "cpsc_train", *command], check=True)
            root = " --root ROOT" if arguments.root else ""
            chosen = f"--methods {arguments.methods} --seeds {arguments.seeds}"
            seconds = pack(out / "runs" / "runs.csv", arguments.results / f"trust-{name}.csv.gz")
            study = f"python studies/trust.py --data {name}{root} {chosen}"
            record_cost(arguments.results / "trust-costs.csv", name, "runs", seconds, study)


if __name__ == "__main__":
    main()
