"""The comparison of all methods: tuning, runs over divisions of the data, and incomplete data.

    python studies/comparison.py --data handwritten --jobs 2
    python studies/comparison.py --data mvsa-single --root FILE.npz --jobs 2
    python studies/comparison.py --data handwritten --commands          # prints the commands, runs none

DATA is a name below. Each step is a command of ``cpsc`` with a folder of runs under --out, so an interrupted study
resumes. The results are written to --results, by default studies/results:

- ``comparison-DATA.csv.gz``: a line for each run, inference variant and condition;
- ``comparison-DATA-missing-30.csv.gz``, ``-50``: the same for rows that lack modalities, with three runs;
- ``comparison-DATA-tuned.toml``: the chosen options, and the conditions on which they were chosen;
- ``comparison-costs.csv``: processor time and command of each step.

Options are chosen on validation rows of division 0, on clean rows and the kinds of noise called *seen* below. Every row
has the same number of trials, the first with its defaults. Kinds that are *held out* were not used in training,
tuning or fitting.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from _tables import write_csv

from cpsc_train.config import read_toml

LEVELS = "1,3,5"
MISSING = (30, 50)
"""Percentages of rows that lack a modality, for each modality."""
AUGMENTED = 0.3
"""Fraction of training rows of a modality that the row *augmented* corrupts."""


@dataclass(frozen=True)
class Data:
    """A data set of the comparison."""

    options: tuple[str, ...]
    """Options of ``cpsc``, without the root."""
    seen: Mapping[str, tuple[str, float]]
    """By modality, the kind of noise used in tuning and augmentation, and the severity for augmentation."""
    held_out: Mapping[str, tuple[str, ...]]
    """By modality, the other kinds."""
    epochs: int = 20
    settings: tuple[str, ...] = field(default_factory=tuple)

    def protocols(self) -> list[str]:
        """Return all conditions: each kind on each modality, and the seen ones on all modalities at once."""
        texts = [
            f"{modality}:{kind}@{LEVELS}"
            for modality, (seen, _) in self.seen.items()
            for kind in (seen, *self.held_out[modality])
        ]
        return [*texts, "+".join(f"{modality}:{kind}@3" for modality, (kind, _) in self.seen.items())]


VECTORS = {"gaussian": ("gaussian", 1.5), "dropout": ("dropout", 0.5)}
DATA = {
    "handwritten": Data(
        ("--recipe", "handwritten", "--modalities", "fou,zer"),
        dict.fromkeys(("fou", "zer"), VECTORS["gaussian"]),
        dict.fromkeys(("fou", "zer"), ("dropout",)),
    ),
    "mvsa-single": Data(
        ("--recipe", "mvsa-single-features"),
        {"image": ("gaussian", 0.18), "text": ("words", 0.5)},
        {"image": ("salt-and-pepper", "blur", "darkness"), "text": ("words-dropped", "words-mistyped")},
        epochs=10,
    ),
    "nyu-depth-v2": Data(
        ("--recipe", "nyu-depth-v2-features"),
        dict.fromkeys(("rgb", "depth"), ("gaussian", 0.18)),
        {"rgb": ("salt-and-pepper", "blur", "darkness"), "depth": ("salt-and-pepper", "occlusion")},
        epochs=15,
    ),
    "scene15": Data(
        ("--recipe", "arrays"),
        dict.fromkeys(("gist20", "phog59", "lbp40"), VECTORS["gaussian"]),
        dict.fromkeys(("gist20", "phog59", "lbp40"), ("dropout",)),
        epochs=15,
    ),
    "avletters": Data(
        ("--recipe", "avletters"),
        {"audio": VECTORS["gaussian"], "lips": ("gaussian", 0.18)},
        {"audio": ("dropout",), "lips": ("blur", "occlusion")},
    ),
}
"""The data sets. Features need the stored corruptions that ``cpsc data features`` extracts."""
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
    shared = [*data.options, *(("--root", arguments.root) if arguments.root else ()), "--jobs", str(arguments.jobs)]
    # A run takes seconds and restarts instead of resuming, so it needs no checkpoints.
    for setting in (
        f"epochs={data.epochs}",
        f"checkpoints.every_epochs={data.epochs}",
        "noise=[]",
        f"protocols={data.protocols()}",
        *data.settings,
    ):
        shared += ["--set", setting]
    parts = ",".join(
        f'{{modality="{modality}",kind="{kind}",severity={severity:g},share={AUGMENTED:g}}}'
        for modality, (kind, severity) in data.seen.items()
    )
    extra = {name: text.format(augment=f"augment=[{parts}]") for name, text in EXTRA.items()}
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
            few = ["--seeds", "0..2", "--suite", "noise", "--reference", "joint-unimodal"]
            name = f"missing-{percent}"
            yield name, [*benchmark, *tuned, *few, *absent, "--set", "protocols=[]", "--out", str(out / name)]


def collect(name: str, step: str, command: str, out: Path, results: Path) -> None:
    """Write the results of a step."""
    place = results / f"comparison-{name}"
    if step == "tune":
        shutil.copyfile(out / "tune" / "tuned.toml", f"{place}-tuned.toml")
        seconds = sum(float(entry["cpu_seconds"]) for entry in read_toml(out / "tune" / "tuned.toml").values())
    else:
        text = (out / step / "runs.csv").read_bytes()
        packed = Path(f"{place}.csv.gz" if step == "runs" else f"{place}-{step}.csv.gz")
        packed.write_bytes(gzip.compress(text, mtime=0))
        lines = csv.DictReader(text.decode().splitlines())
        seconds = sum(
            float(line["cpu_seconds"]) for line in lines if (line["condition"], line["inference"]) == ("clean", "plain")
        )
    table = results / "comparison-costs.csv"
    costs = {}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            costs = {(row["data"], row["step"]): row for row in csv.DictReader(file)}
    costs[name, step] = {"data": name, "step": step, "cpu_seconds": f"{seconds:.0f}", "command": command}
    columns = ["data", "step", "cpu_seconds", "command"]
    write_csv(table, columns, ([row[column] for column in columns] for row in costs.values()))


def _study(name: str, arguments: argparse.Namespace) -> str:
    """Return the command of this study, with a placeholder for the folder of the data."""
    root = " --root ROOT" if arguments.root else ""
    missing = " --missing" if arguments.missing else ""
    chosen = f"--methods {arguments.methods} --trials {arguments.trials} --seeds {arguments.seeds}"
    return f"python studies/comparison.py --data {name}{root} {chosen}{missing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=["handwritten"])
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
