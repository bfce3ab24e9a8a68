"""Branches for what macOS or Windows lack, taken on any system by removing it here."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpsc_train import interrupts, output, writing
from cpsc_train.cli import main
from cpsc_train.data import Splits, processes
from cpsc_train.data.preparation import work
from cpsc_train.data.storage import read_matlab
from cpsc_train.errors import UserError
from cpsc_train.experiments.task import run_command
from cpsc_train.runs import RunFolder
from cpsc_train.training import compute
from cpsc_train.writing import appending, replacing, write


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


@pytest.mark.parametrize("fails", [False, True])
def test_without_locks_a_file_is_closed_before_it_is_moved(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "fcntl", None)
    write(tmp_path / "a", "former")
    (tmp_path / "a.partial").write_text("left by a killed process")
    moved = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *paths: moved.append(file.closed) or replace(*paths))
    try:
        with replacing(tmp_path / "a") as file:
            file.write(b"%d" % (1 // (not fails)))
    except ZeroDivisionError:
        assert fails
    assert (tmp_path / "a").read_text() == ("former" if fails else "1")
    assert moved == [] if fails else [True]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_written_through_a_junction(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "lstat", lambda _: SimpleNamespace(st_mode=0o40777, st_reparse_tag=0xA0000003))
    for attempt in (lambda path: write(path, "x"), appending):
        with pytest.raises(UserError, match="a: is a link"):
            attempt(tmp_path / "a")


def test_a_new_folder_holds_no_lock_where_it_could_not_be_moved(tmp_path, windows, monkeypatch):
    monkeypatch.setattr("cpsc_train.runs.folder.locked", None)
    monkeypatch.setattr(Splits, "save", lambda _self, path, _dataset: write(path, "{}"))
    RunFolder(tmp_path / "run").create({}, Splits.__new__(Splits), None)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.toml", "splits.npz"]


@pytest.mark.parametrize(("number", "code"), [(errno.EINVAL, 141), (errno.EMLINK, 1)])
def test_a_closed_pipe_is_an_invalid_argument(number, code, windows, monkeypatch, capsys):
    def closed(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(output.Output, "print", closed)
    assert main(["--version"]) == code
    assert ("internal error" in capsys.readouterr().err) == (code == 1)


def test_signals_of_unix_are_not_needed(monkeypatch):
    for name in ("SIGCHLD", "pthread_sigmask"):
        monkeypatch.delattr(signal, name, raising=False)
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(interrupts, "_first", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    interrupts.install_handlers()
    interrupts.ignore_signals()
    work._begin(len)
    with pytest.raises(interrupts.Terminated):
        interrupts._handle(signal.SIGTERM, None)


def test_processes_are_spawned_where_there_is_no_fork_server(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert processes.clean_context().get_start_method() == "spawn"


def test_cores_are_those_of_the_machine_where_a_process_has_none(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert processes.cores() == 3


def test_commands_are_spawned_where_there_is_no_fork_server(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert run_command(["--version"], tmp_path / "log") == 0
    assert (tmp_path / "log").read_text().startswith("cpsc-train ")


@pytest.mark.parametrize(("platform", "mebibytes"), [("linux", 2048.0), ("darwin", 2.0)])
def test_peak_memory_has_the_unit_of_the_system(platform, mebibytes, monkeypatch):
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=2**21))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(sys, "platform", platform)
    assert compute.peak_memory(compute.torch.device("cpu")) == mebibytes


def test_memory_is_neither_measured_nor_limited_without_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert compute.peak_memory(compute.torch.device("cpu")) is None
    read_matlab.limit(2**30)
