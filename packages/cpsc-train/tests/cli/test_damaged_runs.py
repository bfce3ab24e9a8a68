"""Commands on run folders in which a value or some bytes were changed: done, or exit code 2 and one sentence."""

from __future__ import annotations

import copy
import json
import shutil
import tomllib

import numpy as np
import pytest
import torch

from damage import damaged

tomli_w = pytest.importorskip("tomli_w")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
JUNK = [0, -1, 10**30, 0.5, float("nan"), float("inf"), True, "", "x", "<b>", [], {}, [[1]], {"a": 1}, "a" * 300]
COMMANDS = {
    "report": ["config.toml", "results.json", "metrics.jsonl", "environment.json", "predictions.npz"],
    "evaluate": ["config.toml", "splits.npz", "results.json", "checkpoint.pt"],
    "export": ["config.toml", "checkpoint.pt", "results.json", "environment.json"],
    "train -q --resume": ["config.toml", "splits.npz", "metrics.jsonl"],
    "train -q --config": ["config.toml"],
}


def bent(rng, value):
    """Return a copy of plain data in which one entry is another value, or missing."""
    result = copy.deepcopy(value)
    place = result
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return result
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.85:
            place = place[key]
        elif rng.random() < 0.25:
            del place[key]
            return result
        else:
            place[key] = JUNK[int(rng.integers(len(JUNK)))]
            return result


def bend(rng, path):
    """Change a value in a file, or, once in five times, its bytes."""
    content = path.read_bytes()
    if rng.random() < 0.2:
        path.write_bytes(damaged(rng, content, content))
    elif path.suffix == ".toml":
        path.write_text(tomli_w.dumps(bent(rng, tomllib.loads(content.decode()))), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(bent(rng, json.loads(content))), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in bent(rng, lines)), encoding="utf-8")
    elif path.suffix == ".npz":
        with np.load(path) as archive:
            arrays = dict(archive)
        name = list(arrays)[int(rng.integers(len(arrays)))]
        array = arrays[name]
        arrays[name] = [array[:1], array[..., None], np.zeros(0), np.full(3, np.nan), np.asarray("x")][rng.integers(5)]
        np.savez(path, **arrays)
    else:
        torch.save(bent(rng, torch.load(path, weights_only=True)), path)


@pytest.mark.parametrize(("command", "file"), [(name, file) for name, files in COMMANDS.items() for file in files])
def test_a_command_ends_with_one_sentence(finished, tmp_path, cpsc, command, file):
    rng = np.random.default_rng(0)
    for number in range(30):
        run = tmp_path / f"run-{number}"
        shutil.copytree(finished, run)
        bend(rng, run / file)
        named = [run / "config.toml", "--out", tmp_path / f"out-{number}"] if "--config" in command else [run]
        outcome = cpsc(*command.split(), *named)
        assert outcome.code in {0, 2}, outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.code == 0 or "error" in outcome.err
