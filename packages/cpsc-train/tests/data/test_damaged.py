"""What damaged inputs found, one of each kind: a sentence that names the file, and nothing that was believed."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch

from cpsc_train.config import apply_settings, read_toml
from cpsc_train.data import DataConfig, Splits
from cpsc_train.data.media.images import read_image
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.storage.cache import Cache
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.data.storage.untrusted import inside
from cpsc_train.errors import UserError
from cpsc_train.models.imported import try_out
from cpsc_train.models.pretrained import load_parameters
from cpsc_train.recipes import recipe
from cpsc_train.runs import RunFolder

DEEP = "[" * 100_000


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800", "../x", "/x"])
def test_names_that_are_no_file_of_the_folder(tmp_path, name):
    with pytest.raises(UserError, match=r"list:3: .* (leads out of|is not a valid file name)"):
        inside(tmp_path, name, "list:3")


def test_text_that_is_nested_too_deeply(tmp_path):
    (tmp_path / "config.toml").write_text(f"x = {DEEP}")
    with pytest.raises(UserError, match="nested too deeply"):
        read_toml(tmp_path / "config.toml")
    (tmp_path / "results.json").write_text(DEEP)
    with pytest.raises(UserError, match="nested too deeply"):
        RunFolder(tmp_path).read_results()
    for damaged in (DEEP.encode(), b"\xff", b"[]", b'{"epoch": "1"}'):
        (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + damaged)
        assert RunFolder(tmp_path).read_metrics() == [{"epoch": 1}]
    (tmp_path / "environment.json").write_text(DEEP)
    assert RunFolder(tmp_path).read_environment() == {}


def test_a_byte_of_the_command_line_that_is_no_text():
    with pytest.raises(UserError, match="a setting must be UTF-8"):
        apply_settings(recipe("crema-d"), ["data.root=\udcff"])


@pytest.mark.parametrize(
    "entry",
    [[0, [10**6], "<f4"], [0, [-1], "<f4"], [0, [1], "O"], [0, [1], "|, "], [-4, [1], "<f4"], [0], [0, 1, 2, 3]],
)
def test_an_entry_of_a_cache_is_not_believed(tmp_path, entry):
    (tmp_path / "cache.json").write_text('{"hash": "k", "of": {}}')
    (tmp_path / "m-00000.bin").write_bytes(bytes(40))
    (tmp_path / "m-00000.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(UserError, match=r"data.cache .*: its entry of a is damaged"):
        Cache.open(str(tmp_path), "k", 1, ["m"]).read("m", "a")


def test_an_array_that_claims_more_than_its_file_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("label.npy", header.getvalue() + bytes(80))
    with pytest.raises(UserError, match=r"a\.npz: is not a readable .npz file"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"b\.npz: no such file"):
        read_npz(tmp_path / "b.npz")


def test_a_list_of_splits_that_holds_something_else_than_ids(tmp_path):
    dataset = DataConfig.named("handwritten")().load()
    (tmp_path / "splits.json").write_text(
        json.dumps({part: [{}] for part in ("train", "calibration", "validation", "test")})
    )
    with pytest.raises(UserError, match="must list ids in quotation marks"):
        Splits.load(tmp_path / "splits.json", dataset)


def test_commands_on_a_run_that_was_bent(finished, tmp_path, cpsc):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"qhat": {"fused": torch.tensor(0.5)}}, run / "checkpoint.pt")
    outcome = cpsc("evaluate", run)
    assert (outcome.code, "no quantile of" in outcome.err) == (2, True)
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"coverage": [1]}))
    outcome = cpsc("report", run)
    assert (outcome.code, "a file does not hold what a run writes" in outcome.err) == (2, True)


def _starve(monkeypatch, target):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(target, refuse)


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch):
    """A file that is whole must not be named as damaged, nor its sample be left out of a data set."""
    pillow, soundfile = pytest.importorskip("PIL.Image"), pytest.importorskip("soundfile")
    np.savez(tmp_path / "a.npz", label=np.zeros(3))
    pillow.new("L", (4, 4)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    torch.save({}, tmp_path / "a.pt")
    for target, read in (
        ("numpy.lib.format.read_array", lambda: read_npz(tmp_path / "a.npz")),
        ("PIL.ImageFile.ImageFile.load", lambda: read_image(tmp_path / "a.png")),
        ("soundfile.SoundFile.read", lambda: read_sound(tmp_path / "a.wav")),
        ("torch.load", lambda: load_parameters(torch.nn.Identity(), tmp_path / "a.pt", model="ResNet18", unused="fc.")),
        ("torch.nn.Module.eval", lambda: try_out(torch.nn.Identity(), lambda module: module, (1,), "a trial")),
    ):
        with monkeypatch.context() as patch:
            _starve(patch, target)
            with pytest.raises(MemoryError):
                read()


def test_memory_that_runs_out_in_a_report_is_no_damage(finished, tmp_path, monkeypatch, cpsc):
    pytest.importorskip("matplotlib", reason="reports are drawn by matplotlib")
    _starve(monkeypatch, "cpsc_train.reporting.report.panel.Panel.render")
    outcome = cpsc("report", finished, "--out", tmp_path / "report")
    assert (outcome.code, outcome.err.startswith("cpsc: error: out of memory (")) == (2, True), outcome.err
    assert not (tmp_path / "report").exists()
