"""The comparison of all methods: tuning, runs over divisions of the data, and incomplete data.

    python studies/comparison.py --data handwritten --jobs 2
    python studies/comparison.py --data mvsa-single --root FILE.npz --jobs 2
    python studies/comparison.py --data handwritten --commands          # prints the commands, runs none

DATA is a name of `COMPARED`. Each step is a command of ``cpsc`` with a folder of runs under --out, so an interrupted
study resumes. The results are written to --results, by default studies/results:

- ``comparison-DATA.csv.gz``: a line for each run, inference variant and condition;
- ``comparison-DATA-missing-30.csv.gz``, ``-50``: the same for rows that lack modalities, with three runs;
- ``comparison-DATA-tuned.toml``: the chosen options, and the conditions on which they were chosen;
- ``comparison-costs.csv``: processor time and command of each step.

Options are chosen on validation rows of division 0, on clean rows and the kinds of noise called *seen* in `_data.DATA`.
Every row has the same number of trials, the first with its defaults. Kinds that are *held out* were not used in
training, tuning or fitting.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from _data import DATA, Data
from _tables import pack, record_cost

from cpsc_train.config import read_toml

COMPARED = ("handwritten", "mvsa-single", "nyu-depth-v2", "scene15", "avletters")
MISSING = (30, 50)
"""Percentages of rows that lack a modality, for each modality."""
AUGMENTED = 0.3
"""Fraction of training rows of a modality that the row *augmented* corrupts."""
EXTRA = {
    "cpsc, RSC and GSC": "method.name=cpsc method.parts=both",
    "cpsc, RSC only": "method.name=cpsc method.parts=rsc",
    "cpsc, GSC only": "method.name=cpsc method.parts=gsc",
    "joint-unimodal, augmented": "method.name=joint-unimodal {augment}",
    "cpsc, RSC and GSC, augmented": "method.name=cpsc method.parts=both {augment}",
}
"""Rows besides the methods, tuned like them."""
ALL_ROWS = {
    f"{method}, all rows": f"method.name={method} splits.calibration=9 inference=[]"
    for method in ("joint", "joint-unimodal")
}
"""Rows of methods without a conformal predictor, which train on all calibration rows but 9."""


def steps(data: Data, arguments: argparse.Namespace, out: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the command of each step."""
    shared = data.command(arguments.root, arguments.jobs, data.protocols())
    extra = {name: text.format(augment=data.augmentation(AUGMENTED)) for name, text in EXTRA.items()}
    tuned = [f"--variant={name}: {text}" for name, text in extra.items()]
    kinds = ",".join(dict.fromkeys(kind for kind, _ in data.seen.values()))
    last = ("--optimizers", "adam,sgd", "--kinds", kinds, "--out", str(out / "tune"))
    yield (
        "tune",
        [*("tune", *shared, "--methods", arguments.methods, *tuned, "--trials", str(arguments.trials)), *last],
    )
    benchmark = [
        "benchmark",
        "--keep-going",
        *shared,
        "--methods",
        arguments.methods,
        "--tuned",
        str(out / "tune"),
        "--divisions",
        "each",
    ]
    rows = [*tuned, *(f"--variant={name}: {text}" for name, text in ALL_ROWS.items())]
    runs = ["--seeds", arguments.seeds, "--inference", arguments.inference, "--reference", "joint-unimodal"]
    yield "runs", [*benchmark, *rows, *runs, "--out", str(out / "runs")]
    if arguments.missing:
        for percent in MISSING:
            absent = [word for m in data.seen for word in ("--missing", f"{m}={percent / 100:g}")]
            few = ["--seeds", "0..2", "--suites", "noise", "--reference", "joint-unimodal"]
            name = f"missing-{percent}"
            yield name, [*benchmark, *tuned, *few, *absent, "--set", "protocols=[]", "--out", str(out / name)]


def collect(name: str, step: str, command: str, out: Path, results: Path) -> None:
    """Write the results of a step."""
    place = results / f"comparison-{name}"
    if step == "tune":
        shutil.copyfile(out / "tune" / "tuned.toml", f"{place}-tuned.toml")
        seconds = sum(float(entry["cpu_seconds"]) for entry in read_toml(out / "tune" / "tuned.toml").values())
    else:
        seconds = pack(out / step / "runs.csv", Path(f"{place}.csv.gz" if step == "runs" else f"{place}-{step}.csv.gz"))
    record_cost(results / "comparison-costs.csv", name, step, seconds, command)


def _study(name: str, arguments: argparse.Namespace) -> str:
    """Return the command of this study, with a placeholder for the folder of the data."""
    root = " --root ROOT" if arguments.root else ""
    missing = " --missing" if arguments.missing else ""
    chosen = f"--methods {arguments.methods} --trials {arguments.trials} --seeds {arguments.seeds}"
    return f"python studies/comparison.py --data {name}{root} {chosen}{missing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=COMPARED, default=["handwritten"])
    parser.add_argument("--root", help="file or folder of the data set")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", default="0..9", help="each has a division of its own")
    parser.add_argument("--inference", default="trust,read:lr=0.003,dasp")
    parser.add_argument("--missing", action="store_true", help="also train and test on rows that lack modalities")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--results", type=Path, default=Path("studies/results"))
    parser.add_argument("--commands", action="store_true", help="only print the commands")
    arguments = parser.parse_args()
    for name in arguments.data:
        for step, command in steps(DATA[name], arguments, arguments.out / name):
            print("cpsc", shlex.join(command), flush=True)
            if not arguments.commands:
                subprocess.run([sys.executable, "-m", "cpsc_train", *command], check=True)
                collect(name, step, _study(name, arguments), arguments.out / name, arguments.results)


if __name__ == "__main__":
    main()
