"""What is read as a whole is a regular file of bounded size: also in a run folder, and as a configuration."""

import os
import shutil

import pytest

from cpsc_train import reading
from cpsc_train.data.faults import read_skip_list
from cpsc_train.errors import DataError
from cpsc_train.reading import check_file, read_file
from cpsc_train.writing import check_writable

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")


@pipes
@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "environment.json", "config.toml", "splits.npz"])
def test_a_pipe_in_a_run_folder_is_refused_and_not_waited_for(finished, tmp_path, cpsc, name):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    found = cpsc("evaluate" if name in {"splits.npz", "config.toml"} else "report", folder)
    assert found.code == 2, found.err
    assert f"{name}: must be a file, got a pipe, socket or device" in found.err


@pipes
def test_a_configuration_and_a_skip_list_are_files(tmp_path, cpsc):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = cpsc("train", "--config", pipe)
    assert found.code == 2
    assert f"{pipe}: must be a file, got a pipe, socket or device" in found.err
    with pytest.raises(DataError, match="must be a file, got a pipe, socket or device"):
        read_skip_list(pipe)


def test_a_file_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b"1234")
    assert read_file(path) == b"1234"
    monkeypatch.setattr(reading.check_file, "__kwdefaults__", {"largest": 3})
    with pytest.raises(DataError, match=r"a\.json: must have at most 3 bytes, got 4"):
        read_file(path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "b.json")
    with pytest.raises(DataError, match="must be a file, got a folder"):
        read_file(tmp_path)


@pipes
def test_what_a_file_is_a_case_of(tmp_path):
    """The row of the table of ``cpsc data check``."""
    (tmp_path / "a").write_bytes(bytes(4))
    os.mkfifo(tmp_path / "pipe")
    for call, kind in (
        (lambda: check_file(tmp_path), "unreadable"),
        (lambda: check_file(tmp_path / "pipe"), "unreadable"),
        (lambda: check_file(tmp_path / "a", largest=3), "wrong size"),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert caught.value.kind == kind


def test_the_largest_file_that_is_read_has_2_gib(tmp_path):
    path = tmp_path / "a"
    path.touch()
    os.truncate(path, 2**31)  # takes no room
    check_file(path)
    os.truncate(path, 2**31 + 1)
    with pytest.raises(DataError, match="must have at most 2,147,483,648 bytes, got 2,147,483,649"):
        check_file(path)
    check_file(path, largest=None)


def test_where_nothing_can_be_written_is_seen_before_the_work(tmp_path, cpsc, small_file):
    link, nowhere = tmp_path / "link.json", tmp_path / "no" / "x.json"
    link.symlink_to(tmp_path / "victim.json")
    listed = ["data", "check", "handwritten", "--set", f"data.file={small_file}", "--skip-list"]
    for words, message in (
        (["evaluate", tmp_path / "run", "--out", link], "is a link, through which nothing is written"),
        (["evaluate", tmp_path / "run", "--out", nowhere], "is not a folder"),
        (["stream", tmp_path / "run", "--picture", tmp_path], "must be a file, got a folder"),
        (["report", tmp_path / "run", "--out", small_file], "must be a folder, got a file"),
        ([*listed, tmp_path], "must be a file, got a folder"),
    ):
        found = cpsc(*words)  # there is no run: the place is looked at first
        assert (found.code, message in found.err) == (2, True), found.err
        assert "no such folder" not in found.err
        assert "no faults found" not in found.out


def test_a_place_that_can_be_written_is_none_to_refuse(tmp_path):
    check_writable(tmp_path / "a.json")
    check_writable(tmp_path, folder=True)
    check_writable(tmp_path / "a" / "b", folder=True)
    (tmp_path / "link").symlink_to(tmp_path)
    check_writable(tmp_path / "link", folder=True)


def test_a_name_with_an_end_of_line_stays_in_its_line(cpsc):
    found = cpsc("train", "--config", "nope\ncpsc: done")
    assert found.code == 2
    assert found.err.splitlines() == [r"cpsc: error: nope\ncpsc: done: cannot be read (No such file or directory)"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoders.fuo.name=mlp", "unknown modality 'encoders.fuo'; did you mean 'encoders.fou'?"),
        ("encoders.zer.name=mlp", "unknown modality 'encoders.zer'"),
        ("method.top_kk=5", "unknown key 'method.top_kk' (known: none)"),
    ],
)
def test_an_option_of_nothing_is_refused(cpsc, tmp_path, setting, message):
    found = cpsc("train", "--method", "joint", "--out", tmp_path / "run", "--set", setting)
    assert found.code == 2
    assert message in found.err
    assert not (tmp_path / "run").exists()
