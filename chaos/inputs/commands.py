"""The commands on run folders and configurations in which something was bent: exit code 2 and a sentence, or done.

A value somewhere in a file is exchanged for another of any kind, or bytes are damaged. No command may end in exit code
1, in a traceback, or not at all. About four minutes, half a minute with `--quick`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

sys.path.insert(0, str(Path(__file__).parent))

from files import damaged, make_run

from cpsc_train.cli import main as cpsc

JUNK: list[Any] = [
    0,
    -1,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    True,
    "",
    "x",
    "<b>",
    [],
    {},
    [[1]],
    {"a": 1},
    "a" * 300,
]
COMMANDS = {
    "report": ["report", "RUN"],
    "evaluate": ["evaluate", "RUN"],
    "export": ["export", "RUN"],
    "train --resume": ["train", "-q", "--resume", "RUN"],
    "train --config": ["train", "-q", "--config", "RUN/config.toml", "--out", "OUT"],
}
READ = {
    "report": ["config.toml", "results.json", "metrics.jsonl", "environment.json", "predictions.npz"],
    "evaluate": ["config.toml", "splits.json", "results.json", "checkpoint.pt"],
    "export": ["config.toml", "checkpoint.pt"],
    "train --resume": ["config.toml", "splits.json", "metrics.jsonl"],
    "train --config": ["config.toml"],
}


def bent(rng: np.random.Generator, value: Any) -> Any:
    """Return a copy of plain data in which one place holds something else, or nothing."""
    made = copy.deepcopy(value)
    place = made
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return made
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.85:
            place = place[key]
        elif rng.random() < 0.25:
            del place[key]
            return made
        else:
            place[key] = JUNK[int(rng.integers(len(JUNK)))]
            return made


def bend(rng: np.random.Generator, path: Path) -> None:
    """Damage a file: its values, or its bytes."""
    whole = path.read_bytes()
    if path.suffix == ".toml" and rng.random() < 0.8:
        path.write_text(tomli_w.dumps(bent(rng, tomllib.loads(whole.decode()))), encoding="utf-8")
    elif path.suffix == ".json" and rng.random() < 0.8:
        path.write_text(json.dumps(bent(rng, json.loads(whole))), encoding="utf-8")
    elif path.suffix == ".jsonl" and rng.random() < 0.8:
        lines = [json.loads(line) for line in whole.splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in bent(rng, lines)), encoding="utf-8")
    elif path.suffix == ".npz" and rng.random() < 0.8:
        with np.load(path) as archive:
            arrays = dict(archive)
        name = list(arrays)[int(rng.integers(len(arrays)))]
        arrays[name] = [arrays[name][:1], arrays[name][..., None], np.zeros(0), np.full(3, np.nan), np.asarray("x")][
            int(rng.integers(5))
        ]
        np.savez(path, **arrays)
    elif path.suffix == ".pt" and rng.random() < 0.8:
        import torch  # noqa: PLC0415  # the commands bring it

        torch.save(bent(rng, torch.load(path, weights_only=True)), path)
    else:
        path.write_bytes(damaged(rng, whole, whole))


def fault(arguments: list[str]) -> str | None:
    """Run a command; return what is wrong with how it ended."""
    out, err, start = io.StringIO(), io.StringIO(), time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cpsc(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:  # whatever escapes is the finding
        return f"escaped: {type(error).__name__}: {error}"
    said = err.getvalue()
    if code not in (0, 2) or "Traceback" in said:
        frames = [line.strip() for line in said.splitlines() if line.lstrip().startswith("File")]
        return (
            f"exit {code}: {said.splitlines()[-2] if code == 1 else said[-200:]} {frames[-1][-90:] if frames else ''}"
        )
    if code == 2 and "error" not in said:
        return f"exit 2 without a sentence: {said[-200:]!r}"
    return f"took {time.perf_counter() - start:.0f} s" if time.perf_counter() - start > 60 else None


def main() -> int:
    """Bend the files of each command, print a line for each, and return 1 if any ended badly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=None, help="for each command")
    options = parser.parse_args()
    seconds = options.seconds or (5 if options.quick else 45)
    failed = 0
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        whole = make_run(folder)
        for name, arguments in COMMANDS.items():
            if options.only not in name:
                continue
            rng, found, tried = np.random.default_rng(options.seed), dict[str, str](), 0
            start = time.perf_counter()
            while time.perf_counter() - start < seconds:
                run, out = folder / "bent", folder / "out"
                for old in (run, out):
                    shutil.rmtree(old, ignore_errors=True)
                shutil.copytree(whole, run)
                file = READ[name][tried % len(READ[name])]
                bend(rng, run / file)
                said = fault([part.replace("RUN", str(run)).replace("OUT", str(out)) for part in arguments])
                tried += 1
                if said is not None:
                    found.setdefault(said[-90:], f"{file}: {said}")
            failed += len(found)
            verdict = "ok" if not found else f"{len(found)} FAILED" + "".join(f"\n    {one}" for one in found.values())
            print(f"{name:<20}{tried:>7}  {verdict}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
