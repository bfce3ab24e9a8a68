"""Commands on data sets and run folders of strangers: memory, files outside the folder, the terminal, and reports."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from cpsc_train.errors import UserError
from cpsc_train.models.fusion import ImportedFusionConfig
from cpsc_train.models.imported import ImportedConfig
from cpsc_train.training import checkpoint

pytestmark = pytest.mark.slow
MOST = 300  # MiB by which a file of a stranger may raise the memory of a command
EVIL = "a[/v2]\x1b[31m\x07"
HTML = "<img src=x onerror=alert(1)><script>alert(1)</script>'\"&"


def in_a_process(*words):
    """Run a command; return its exit code, its output, and the largest memory of it and its children in MiB."""
    command = [sys.executable, "-m", "cpsc_train", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = process.stdout.read().decode("utf-8", "replace")
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, text, used.ru_maxrss / 1024


@pytest.fixture(scope="module")
def usual():
    """The memory of a command that reads a small data set, in MiB."""
    return in_a_process("data", "check", "handwritten", "--workers", 0)[2]


def assert_refused(usual, *words):
    code, text, memory = in_a_process(*words, "--workers", 0)
    assert (code, "Traceback" in text) == (2, False), text
    assert memory <= usual + MOST


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_becomes_400_mb(tmp_path, usual, method):
    path, header = tmp_path / "a.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (4 * 10**8,)})
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("label.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(400):  # in parts, since the memory of this process counts as that of those it starts
            member.write(bytes(10**6))
    assert_refused(usual, "data", "check", "handwritten", "--set", f"data.file={path}")


def test_hdf5_that_claims_1_gb_and_a_list_of_matlab_with_6_million_numbers(tmp_path, usual):
    h5py, scipy = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    scenes = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(scenes, "w") as file:
        kinds = file.create_dataset("sceneTypes", (1, 2), dtype=h5py.ref_dtype)
        for row in range(2):
            file[f"#refs#/{row}"] = np.frombuffer("kitchen".encode("utf-16-le"), np.uint16)
            kinds[0, row] = file[f"#refs#/{row}"].ref
        file.create_dataset("images", (2, 3, 15000, 15000), np.uint8)
        file.create_dataset("depths", (2, 15000, 15000), np.float32)
    assert_refused(usual, "data", "check", "nyu-depth-v2", "--root", tmp_path)
    with h5py.File(scenes, "a") as file:
        del file["images"], file["depths"]
        file["images"], file["depths"] = np.zeros((2, 3, 8, 6), np.uint8), np.ones((2, 8, 6), np.float32)
    lists = {"trainNdxs": np.zeros((6 * 10**6, 1)), "testNdxs": [1]}
    scipy.savemat(tmp_path / "splits.mat", lists, do_compression=True)
    assert_refused(usual, "data", "check", "nyu-depth-v2", "--root", tmp_path)


def test_a_tensor_of_4_tb_in_a_checkpoint(tmp_path):
    torch.save({"model": {"w": torch.zeros(4)}}, tmp_path / "small.pt")
    with zipfile.ZipFile(tmp_path / "small.pt") as small, zipfile.ZipFile(tmp_path / "forged.pt", "w") as forged:
        for name in small.namelist():
            content = small.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"K\x04", b"\x8a\x06\x00\x00\x00\x00\x00\x01")  # 4 becomes 2^40
            forged.writestr(name, content)
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "forged.pt", torch.device("cpu"))


LINKS = {
    "report/report.html": ["report", "RUN"],
    "report/figures": ["report", "RUN"],
    "model.safetensors": ["export", "RUN"],
    "metrics.jsonl": ["train", "--resume", "RUN"],
    "environment.json": ["train", "--resume", "RUN"],
    ".lock": ["train", "--resume", "RUN"],
    "checkpoints": ["train", "--resume", "RUN"],
    "out.json": ["evaluate", "RUN", "--out", "RUN/out.json"],
}


@pytest.mark.parametrize("name", LINKS)
def test_no_command_writes_through_a_link(finished, tmp_path, cpsc, name):
    run, secret, elsewhere = tmp_path / "run", tmp_path / "secret", tmp_path / "elsewhere"
    shutil.copytree(finished, run)
    (run / "results.json").unlink()  # as of a run that is to be resumed
    place, original = run / name, finished / name
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    content = original.read_bytes() if original.is_file() else b"mine"
    secret.write_bytes(content)
    elsewhere.mkdir()
    place.symlink_to(elsewhere if name in {"report/figures", "checkpoints"} else secret)
    outcome = cpsc(*(word.replace("RUN", str(run)) for word in LINKS[name]))
    assert (outcome.code, "is a link" in outcome.err) == (2, True), outcome.err
    assert secret.read_bytes() == content
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["report", "RUN"],
        ["evaluate", "RUN"],
        ["export", "RUN"],
        ["report", f"absent/{EVIL}"],
        ["train", "--config", EVIL],
        ["train", f"--{EVIL}"],
        ["train", "--recipe", EVIL],
        ["train", "--set", f"data.{EVIL}=1"],
        ["evaluate", "RUN", "--noise", f"{EVIL}:gaussian:1"],
    ],
    ids=lambda command: " ".join(command[:2]).translate({27: None, 7: None}),
)
def test_no_name_controls_the_terminal(finished, tmp_path, cpsc, command):
    shutil.copytree(finished, tmp_path / EVIL)
    outcome = cpsc(*(word.replace("RUN", str(tmp_path / EVIL)) for word in command))
    assert outcome.code in {0, 2}, outcome.err
    assert {sign for sign in outcome.out + outcome.err if ord(sign) < 32} <= {"\n", "\t"}


class Elements(HTMLParser):
    """The elements of a page that could run or load something, and its policy."""

    def __init__(self):
        super().__init__()
        self.active = []
        self.policy = ""

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        addresses = [value or "" for name, value in attrs if name in {"src", "srcset", "href"}]
        active = tag in {"script", "iframe", "object", "embed", "svg", "form"}
        active |= any(not address.startswith(("data:", "#")) for address in addresses)
        if active or any(name.startswith("on") for name in attributes):
            self.active.append(self.get_starttag_text())


def renamed(finished, folder):
    """Return a copy of a run in which a modality, the classes, the recipe and the folder have names of HTML."""
    run = folder / HTML.replace("/", "")
    shutil.copytree(finished, run)
    for name in ("results.json", "environment.json", "metrics.jsonl"):
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(text.replace('"fou', json.dumps(HTML)[:-1] + "fou"), encoding="utf-8")
    quoted = json.dumps(HTML + "fou")
    config = (run / "config.toml").read_text(encoding="utf-8")
    config = re.sub(r'"fou"', lambda _: quoted, config)
    config = re.sub(r"^(\[?[\w.]*\b)fou\b", lambda match: match[1] + quoted, config, flags=re.MULTILINE)
    config = config.replace('recipe = "handwritten"', f"recipe = {json.dumps(HTML)}")
    (run / "config.toml").write_text(config, encoding="utf-8")
    with np.load(run / "predictions.npz") as archive:
        arrays = dict(archive)
    arrays["classes"] = np.asarray([f"{HTML}{number}" for number in range(len(arrays["classes"]))])
    np.savez(run / "predictions.npz", **arrays)
    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("more", [0, 1])
def test_names_of_html_in_every_place_of_a_report(finished, tmp_path, cpsc, more):
    pytest.importorskip("matplotlib")
    outcome = cpsc("report", renamed(finished, tmp_path), *[finished] * more, "--out", tmp_path / "page")
    assert outcome.code == 0, outcome.err
    page, text = Elements(), (tmp_path / "page/report.html").read_text(encoding="utf-8")
    page.feed(text)
    assert page.active == []
    assert "default-src 'none'" in page.policy
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("kind", [ImportedConfig, ImportedFusionConfig])
def test_a_setting_that_runs_code_says_so(kind):
    assert "runs that code" in kind.__doc__
