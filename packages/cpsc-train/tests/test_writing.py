"""Files are written whole or not at all, and never through a link."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cpsc_train import writing
from cpsc_train.config import read_toml, write_toml
from cpsc_train.errors import UserError
from cpsc_train.reporting.log_file import LogFile
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process
from cpsc_train.writing import appending, as_csv, locked, make_folder, replacing, write


@pytest.fixture
def secret(tmp_path):
    """Return a file that nothing may be written to."""
    path = tmp_path / "secret"
    path.write_text("mine")
    return path


def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write(path, "former")

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.json: cannot be written \(No space left on device\)"):
        write(path, "new")
    with pytest.raises(UserError, match=r"cannot be written"), replacing(path) as file:
        file.write(b"half")
    assert path.read_text() == "former"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_block_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.json"
    write(path, "former")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_text() == "former"
    assert len(list(tmp_path.iterdir())) == 1


def test_half_a_character_is_written_as_its_escape(tmp_path):
    """A file name that is not UTF-8 would otherwise end the run when its tables are written."""
    write(tmp_path / "a.csv", "id\n\udcff\n")
    assert (tmp_path / "a.csv").read_text() == "id\n\\udcff\n"
    with appending(tmp_path / "a.csv") as file:
        file.write("\udcfe\n")
    assert (tmp_path / "a.csv").read_text() == "id\n\\udcff\n\\udcfe\n"


def test_the_file_or_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a").touch()
    for attempt in (make_folder, appending, lambda path: write(path, "x")):
        with pytest.raises(UserError, match=r"a.b: cannot be written \(.*[Nn]ot a directory"):
            attempt(tmp_path / "a" / "b")


def test_nothing_is_written_through_a_link(tmp_path, secret):
    link = tmp_path / "link"
    link.symlink_to(secret)
    for attempt in (lambda: write(link, "x"), lambda: appending(link), lambda: LogFile(link)):
        with pytest.raises(UserError, match="link: is a link"):
            attempt()
    (tmp_path / "a.partial").symlink_to(secret)
    write(tmp_path / "a", "x")
    assert not (tmp_path / "a").is_symlink()
    assert secret.read_text() == "mine"


def test_nothing_is_written_through_a_link_that_appears_after_the_look(tmp_path, secret, monkeypatch):
    monkeypatch.setattr(writing, "refuse_link", lambda _path, *, below=None: None)
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(UserError, match="link: cannot be written"):
        appending(tmp_path / "link")
    assert secret.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes there")
def test_a_file_is_for_all_unless_it_is_private(tmp_path):
    before = os.umask(0o022)
    try:
        write(tmp_path / "a", "x")
        write(tmp_path / "b", "x", private=True)
        appending(tmp_path / "c").close()
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "abc"] == [0o644, 0o600, 0o644]


@pytest.mark.parametrize("left", [False, True])
def test_a_file_that_goes_before_it_is_locked_is_made_again(tmp_path, monkeypatch, left):
    """Another process took it for one that a killed process had left, or moved it into its place."""
    attempts = []
    if left:
        (tmp_path / "a.partial").touch()

    def lock(_number, path):
        attempts.append(path)
        if len(attempts) == 1:
            path.unlink()

    monkeypatch.setattr(writing, "_lock", lock)
    write(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"
    assert attempts == [tmp_path / "a.partial"] * 2


WRITES = """
import pathlib, sys, time
from cpsc_train.writing import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writes", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock there")
def test_what_a_killed_process_left_is_replaced_and_what_another_writes_is_not(tmp_path):
    write(tmp_path / "a", "whole")
    with subprocess.Popen([sys.executable, "-c", WRITES, tmp_path / "a"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writes\n"
        with pytest.raises(UserError, match=r"a\.partial: another process is writing it"):
            write(tmp_path / "a", "new")
        other.kill()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.partial"]
    assert (tmp_path / "a").read_text() == "whole"
    write(tmp_path / "a", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_is_made_with_those_that_it_is_in_and_may_be_there(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_no_folder_below_the_one_that_was_named_is_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="report: is a link"):
        make_folder(run / "report" / "figures", below=run)
    with pytest.raises(UserError, match="report: is a link"):
        write(run / "report" / "report.html", "x", below=run)
    write(run / "report" / "report.html", "x", below=run / "report")  # named by the user, as /tmp may be a link
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("metrics.jsonl", lambda run: run.log({"epoch": 1})),
        ("metrics.jsonl", lambda run: run.forget_after(1)),
        ("results.json", lambda run: run.write_results({})),
        ("predictions.npz", lambda run: run.write_predictions({})),
        (".lock", lambda run: run.locked().__enter__()),
        ("environment.json", lambda run: run.recording().__enter__()),
        ("checkpoint.pt", lambda run: checkpoint.save(run.checkpoint, {})),
    ],
)
def test_a_run_folder_of_somebody_else(tmp_path, secret, name, attempt):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    secret.write_text('{"epoch": 1}\n')
    (run.path / name).symlink_to(secret)
    with pytest.raises(UserError, match="is a link"):
        attempt(run)
    assert secret.read_text() == '{"epoch": 1}\n'


def test_a_run_is_not_begun_elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"run\.partial: is a link"):
        RunFolder(tmp_path / "run").create({}, None, None)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("attempt", ["save", "forget"])
def test_checkpoints_do_not_lead_elsewhere(tmp_path, attempt):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.partial").touch()
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.checkpoints.symlink_to(tmp_path / "elsewhere")
    checkpoints = Checkpoints(run.checkpoints, 2, Process())
    if attempt == "save":
        checkpoints.save(1, {})
    with pytest.raises(UserError, match="checkpoints: is a link"):
        checkpoints.wait() if attempt == "save" else checkpoints.remove_unfinished()
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["a.partial"]


def test_a_lock_says_what_the_other_process_does(tmp_path):
    code = "import sys, time; from pathlib import Path; from cpsc_train.writing import locked\n"
    code += "with locked(Path(sys.argv[1])): print(flush=True); time.sleep(60)"

    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is filling it"), locked(tmp_path, busy="filling it"):
            pass
        other.kill()


def test_an_address_with_a_password_is_for_the_users_eyes(tmp_path, monkeypatch):
    write_toml(tmp_path / "plain.toml", {"root": "s3://bucket/data"})
    write_toml(tmp_path / "config.toml", {"root": "s3://key:secret@bucket/data"})
    assert read_toml(tmp_path / "config.toml") == {"root": "s3://key:secret@bucket/data"}
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "plain.toml").stat().st_mode & 0o044
    monkeypatch.setattr("sys.argv", ["cpsc", "train", "--root", "s3://key:secret@bucket/data?sig=1f"])
    with RunFolder(tmp_path).recording():
        pass
    assert json.loads((tmp_path / "environment.json").read_text())["command"][-1] == "s3://***@bucket/data?***"


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path):
    (tmp_path / "a.toml").write_text("epochs = 3\n", encoding="utf-8-sig")
    assert read_toml(tmp_path / "a.toml") == {"epochs": 3}


def test_a_cell_is_no_formula_and_a_number_stays_one():
    rows = [
        ["=cmd|' /C calc'!A0", "@a", "+a", "-a", "\ta"],
        ["-0.5", "+1e-3", "-inf", "a-b", "1=1"],
        [-0.5, 3, "", "a", "b"],
    ]
    first, second, third = as_csv(rows).splitlines()
    assert first == "'=cmd|' /C calc'!A0,'@a,'+a,'-a,'\ta"
    assert second == "-0.5,+1e-3,-inf,a-b,1=1"
    assert third == "-0.5,3,,a,b"
