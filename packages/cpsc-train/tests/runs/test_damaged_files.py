"""Damaged files of every kind that a run reads: read, or refused in one line, within two seconds."""

from __future__ import annotations

import io
import json
import shutil
import time

import numpy as np
import pytest
import torch

from cpsc_train.config import apply_settings, read_toml
from cpsc_train.data import DataConfig, Noise, Splits
from cpsc_train.data.faults import Faults, read_skip_list
from cpsc_train.data.storage.cache import Cache
from cpsc_train.data.storage.files import fields, read_list
from cpsc_train.data.storage.index import Index
from cpsc_train.data.storage.packed import open_packed
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe
from cpsc_train.reporting.report.source import read_runs
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import RunConfig, checkpoint
from damage import damaged

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def attack(read, examples, tries):
    """Call a reader of bytes on damaged examples."""
    rng = np.random.default_rng(0)
    for _ in range(tries):
        content = damaged(rng, examples[int(rng.integers(len(examples)))], examples[0])
        start = time.perf_counter()
        try:
            read(content)
        except UserError as error:
            lines = str(error).split("\n")
            assert len(lines) == 1, (lines, content)  # most damage does no harm
            assert lines[0], content
        except Exception as error:
            error.add_note(f"on {content[:200]!r}")
            raise
        assert time.perf_counter() - start < 2, content


def text(content):
    """Return text as the command line receives it."""
    return content.decode("utf-8", "surrogateescape")


def test_a_list_of_files(tmp_path):
    path = tmp_path / "list.csv"

    def read(content):
        path.write_bytes(content)
        for row in read_list(path, lambda line, number: fields(line, ",", 2, f"list.csv:{number}"), Faults()):
            try:
                inside(tmp_path, row[0], "list.csv").is_file()
            except UserError:
                continue

    attack(read, [b"a.wav,3\nb.wav,4\n", b"\xef\xbb\xbffile,label\nx/y.png,0\r\nz.png,1\r\n"], 40_000)


def test_a_skip_list(tmp_path):
    path = tmp_path / "skip"

    def read(content):
        path.write_bytes(content)
        read_skip_list(path)

    attack(read, [b"# x\na\tmissing\nlist.csv:3\tbad line\n"], 20_000)


def test_noise():
    attack(lambda content: Noise.sweep(text(content)), [b"pix:gaussian:0.25,0.5,1", b"fou:salt-pepper:1"], 20_000)


def test_an_override():
    base = recipe("handwritten")
    examples = [b"optimizer.lr=0.01", b"method.name=joint", b"data.modalities=['pix', 'fou']"]
    attack(lambda content: apply_settings(base, [text(content)]), examples, 6_000)


READERS = {
    "config.toml": lambda folder: RunConfig.from_plain(RunFolder(folder).read_config()),
    "metrics.jsonl": lambda folder: RunFolder(folder).read_metrics(),
    "results.json": lambda folder: RunFolder(folder).read_results(),
    "environment.json": lambda folder: RunFolder(folder).read_environment(),
    "predictions.npz": lambda folder: read_runs([folder]),
    "checkpoint.pt": lambda folder: checkpoint.load(folder / "checkpoint.pt", torch.device("cpu")),
}


@pytest.mark.parametrize(
    ("name", "tries"),
    [
        ("config.toml", 6_000),
        ("metrics.jsonl", 4_000),
        ("results.json", 4_000),
        ("environment.json", 4_000),
        ("predictions.npz", 600),
        ("checkpoint.pt", 1_000),
    ],
)
def test_a_file_of_a_run(finished, tmp_path, name, tries):
    run = tmp_path / "run"
    shutil.copytree(finished, run)

    def read(content):
        (run / name).write_bytes(content)
        READERS[name](run)

    attack(read, [(finished / name).read_bytes()], tries)


def test_the_toml_of_a_run(finished, tmp_path):
    path = tmp_path / "c.toml"

    def read(content):
        path.write_bytes(content)
        read_toml(path)

    attack(read, [(finished / "config.toml").read_bytes()], 6_000)


@pytest.mark.parametrize("name", ["splits.json", "splits.npz"])
def test_the_splits_of_a_run(finished, small_file, tmp_path, name):
    dataset = DataConfig.named("handwritten")(file=str(small_file)).load()
    path = tmp_path / name
    Splits.load(finished / "splits.npz", dataset).save(path, dataset)

    def read(content):
        path.write_bytes(content)
        Splits.load(path, dataset)

    attack(read, [path.read_bytes()], 2_000)


def test_the_index_of_a_cache(tmp_path):
    (tmp_path / "cache.json").write_text(json.dumps({"hash": "k", "of": {}}), encoding="utf-8")
    (tmp_path / "m-00000.bin").write_bytes(bytes(range(40)))

    def read(content):
        (tmp_path / "m-00000.json").write_bytes(content)
        cache = Cache.open(str(tmp_path), "k", 2, ["m"])
        for sample in ("a", "b"):
            cache.read("m", sample)

    attack(read, [json.dumps({"a": [0, [2, 3], "<f4"], "b": [24, [2], "|u1"]}).encode()], 6_000)


def test_the_index_of_packed_files(tmp_path):
    (tmp_path / "000.tar").write_bytes(bytes(500))

    def read(content):
        (tmp_path / "index.npz").write_bytes(content)
        packed = open_packed(str(tmp_path))
        for name in packed.store.index.paths[:3] if packed is not None else ():
            try:
                (packed / name).read_bytes()
            except OSError:  # which an adapter takes for a file that cannot be read
                continue

    Index.of("000.tar", {"a/b.wav": (0, 100, 1), "c": (100, 7, 2)}).write(index := io.BytesIO())
    attack(read, [index.getvalue()], 2_000)
