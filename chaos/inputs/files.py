"""Damaged files of every kind that is read: each ends in one sentence that names it, or is read.

Bytes are flipped, cut, doubled, put in from a table of tokens, and exchanged between files; a reader may raise
UserError and nothing else, within two seconds. More than a million executions, most of them of the readers that take
microseconds; about four minutes, ten seconds with `--quick`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cpsc_train.config import apply_settings, read_toml
from cpsc_train.data import DataConfig, Noise, Splits
from cpsc_train.data.faults import Faults, read_skip_list
from cpsc_train.data.storage.cache import Cache
from cpsc_train.data.storage.files import fields, read_list
from cpsc_train.data.storage.packed import open_packed
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe
from cpsc_train.reporting.report.source import read_runs
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import RunConfig, checkpoint

TOKENS = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b",",
    b"\t",
    b"=",
    b".",
    b"../",
    b"/etc/passwd",
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"inf",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"9" * 30,
    b"[" * 2000,
    b"a" * 300,
    b"\xf0\x9f\x92\xa5",
    b"name",
    b"import",
    b"1979-05-27T07:32:00Z",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"%s",
    b"'''",
    b"#",
]


def damaged(rng: np.random.Generator, whole: bytes, other: bytes) -> bytes:
    """Return bytes that were changed in a few places."""
    held = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(0, len(held) + 1)), int(rng.geometric(0.1))
        kind = int(rng.integers(0, 6))
        if kind == 0 and held:
            held[place % len(held)] ^= int(rng.integers(1, 256))
        elif kind == 1:
            held[place : place + length] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 2:
            del held[place : place + length]
        elif kind == 3:
            held[place:place] = held[place : place + length]
        elif kind == 4 and other:
            start = int(rng.integers(0, len(other)))
            held[place : place + length] = other[start : start + length]
        elif kind == 5 and rng.random() < 0.2:
            del held[place:]
    return bytes(held)


class Held:
    """A file in memory, as much of a path as readers of lists use."""

    def __init__(self, held: bytes) -> None:
        self.held = held
        self.name = "list.csv"

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """Return what it holds."""
        return self.held


@dataclasses.dataclass
class Target:
    """A reader: examples of what it reads, what it does with them, and how many times it is run."""

    whole: Sequence[bytes]
    read: Callable[[bytes], object]
    count: int


def in_file(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes from one of a file."""

    def write_and_read(held: bytes) -> object:
        path.write_bytes(held)
        return read()

    return write_and_read


def text(held: bytes) -> str:
    """Return text as the command line gets it."""
    return held.decode("utf-8", "surrogateescape")


def make_run(folder: Path) -> Path:
    """Train for two epochs, so that there is a run folder to damage."""
    run = folder / "run"
    command = [
        sys.executable,
        "-m",
        "cpsc_train",
        "train",
        "--epochs",
        "2",
        "--set",
        "method.warmup=1",
        "--out",
        str(run),
        "--quiet",
    ]
    subprocess.run(command, check=True, capture_output=True)  # our own command
    return run


def targets(folder: Path, run: Path) -> dict[str, Target]:
    """Return what is tried."""
    base = recipe("handwritten")
    config = (run / "config.toml").read_bytes()
    dataset = DataConfig.named("handwritten")(modalities=("pix", "fou")).load()
    cache_key = "k" * 8
    cache = folder / "cache"
    cache.mkdir()
    (cache / "cache.json").write_text(json.dumps({"hash": cache_key, "of": {}}), encoding="utf-8")
    entry = json.dumps({"a": [0, [2, 3], "<f4"], "b": [24, [2], "|u1"]}).encode()
    (cache / "m-00000.bin").write_bytes(bytes(range(40)))

    def read_cache() -> None:
        opened = Cache.open(str(cache), cache_key, 2, ["m"])
        for sample in ("a", "b"):
            opened.read("m", sample)

    packed = folder / "packed"
    packed.mkdir()
    (packed / "000.tar").write_bytes(bytes(500))

    def read_packed() -> None:
        found = open_packed(str(packed))
        if found is not None:
            for name in sorted(found.store.references)[:3]:
                try:
                    (found / name).read_bytes()
                except OSError:  # adapters take it for a file that cannot be read
                    continue

    def read_lines(held: bytes) -> None:
        faults = Faults()
        lines = read_list(Held(held), lambda line, number: fields(line, ",", 2, f"list.csv:{number}"), faults)
        for row in lines:
            try:
                inside(folder, row[0], "list.csv").is_file()
            except UserError:
                continue

    lists = [b"a.wav,3\nb.wav,4\n", b"\xef\xbb\xbffile,label\nx/y.png,0\r\nz.png,1\r\n"]
    damaged_run = folder / "damaged"
    shutil.copytree(run, damaged_run)

    def of_run(name: str, read: Callable[[], object], count: int) -> Target:
        whole = (run / name).read_bytes()

        def write_and_read(held: bytes) -> None:
            (damaged_run / name).write_bytes(held)
            try:
                read()
            finally:
                (damaged_run / name).write_bytes(whole)

        return Target([whole], write_and_read, count)

    held = RunFolder(damaged_run)
    return {
        "lists of files": Target(lists, read_lines, 550_000),
        "skip lists": Target(
            [b"# x\na\tmissing\nlist.csv:3\tbad line\n"],
            in_file(folder / "skip", lambda: read_skip_list(folder / "skip")),
            100_000,
        ),
        "noise": Target([b"pix:gaussian:0.25,0.5,1", b"fou:salt-pepper:1"], lambda b: Noise.sweep(text(b)), 100_000),
        "--set": Target(
            [b"optimizer.lr=0.01", b"method.name=joint", b"data.modalities=['pix', 'fou']"],
            lambda b: apply_settings(base, [text(b)]),
            60_000,
        ),
        "TOML": Target([config], in_file(folder / "c.toml", lambda: read_toml(folder / "c.toml")), 60_000),
        "config.toml": of_run("config.toml", lambda: RunConfig.from_plain(held.read_config()), 60_000),
        "splits.json": of_run("splits.json", lambda: Splits.load(damaged_run / "splits.json", dataset), 12_000),
        "metrics.jsonl": of_run("metrics.jsonl", held.read_metrics, 40_000),
        "results.json": of_run("results.json", held.read_results, 40_000),
        "environment.json": of_run("environment.json", held.read_environment, 40_000),
        "predictions.npz": of_run("predictions.npz", lambda: read_runs([damaged_run]), 3_000),
        "checkpoint.pt": of_run("checkpoint.pt", lambda: checkpoint.load(held.checkpoint, torch.device("cpu")), 6_000),
        "index of a cache": Target([entry], in_file(cache / "m-00000.json", read_cache), 60_000),
        "index of packed files": Target(
            [b'{"version": 1, "refs": {"a/b.wav": ["000.tar", 0, 100], "c": ["000.tar", 100, 7]}}'],
            in_file(packed / "index.json", read_packed),
            12_000,
        ),
    }


def attack(target: Target, rng: np.random.Generator, count: int) -> list[str]:
    """Run a reader on damaged bytes; return what was wrong, each kind once."""
    found: dict[str, str] = {}
    for _ in range(count):
        whole = target.whole[int(rng.integers(len(target.whole)))]
        held = damaged(rng, whole, target.whole[0])
        start = time.perf_counter()
        try:
            target.read(held)
        except UserError as error:
            if "\n" in str(error) or not str(error):
                found.setdefault("message", f"not one line: {str(error)!r}")
        except Exception as error:  # whatever else escapes is the finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            found.setdefault(key, f"{key}: {str(error)[:100]!r} for {held[:80]!r}")
        if time.perf_counter() - start > 2:
            found.setdefault("slow", f"took {time.perf_counter() - start:.1f} s for {held[:80]!r}")
    return list(found.values())


def main() -> int:
    """Attack every reader, print a line for each, and return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    total = failed = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name, target in targets(Path(folder), make_run(Path(folder))).items():
            if options.only not in name:
                continue
            count = max(100, target.count // 50) if options.quick else target.count
            start = time.perf_counter()
            found = attack(target, np.random.default_rng([options.seed, len(name)]), count)
            rate = count / (time.perf_counter() - start)
            total, failed = total + count, failed + len(found)
            verdict = "ok" if not found else f"{len(found)} FAILED" + "".join(f"\n    {one}" for one in found[:12])
            print(f"{name:<24}{count:>9}{rate:>9.0f}/s  {verdict}", flush=True)
    print(f"{'executions':<24}{total:>9}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
