"""A data set with one fault of each kind: each is found, named and counted, and can be left out."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest

from cpsc_train.cli import main
from cpsc_train.data import DataConfig, SplitConfig
from cpsc_train.data.preparation import balance, check
from cpsc_train.data.preparation.work import each
from cpsc_train.errors import UserError

checking = importlib.import_module("cpsc_train.data.preparation.check")  # the package has a function of that name
SPLITS = SplitConfig(calibration=0.2, validation=0.2)


@pytest.fixture
def spoilt(layouts, tmp_path):
    """CREMA-D in its derived layout, and by kind the place of what is wrong with it."""
    root = layouts.crema_d(tmp_path / "crema")
    sound, frames = root / "AudioWAV", root / "Image-01-FPS"
    (sound / "1001_DFA_NEU_XX.wav").unlink()
    (sound / "1001_DFA_HAP_XX.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    whole = (sound / "1001_DFA_SAD_XX.wav").read_bytes()
    (sound / "1001_DFA_SAD_XX.wav").write_bytes(whole[: len(whole) // 2])
    (sound / "1001_DFA_FEA_XX.wav").write_bytes(whole[:44] + bytes(len(whole) - 44))
    (sound / "1001_DFA_DIS_XX.wav").write_bytes(b"")
    shutil.rmtree(frames / "1002_DFA_NEU_XX")
    (frames / "1002_DFA_NEU_XX").mkdir()
    (frames / "1002_DFA_HAP_XX" / "00001.jpg").write_bytes(b"no image")
    layouts.picture(frames / "1002_DFA_SAD_XX" / "00002.jpg", 20, 20)
    lines = (root / "train.csv").read_text(encoding="utf-8-sig").splitlines()
    extra = ["1003_DFA_NEU_XX,NEU", "1005_DFA_HAP_XX,HAP", "1003_ITS_NEU_XX,JOY", "a,b,c", "name,label"]
    (root / "train.csv").write_text("\n".join(["\ufeffname,label", *lines, *extra]) + "\n", encoding="utf-8")
    last = len(lines) + 1
    return root, {
        "1001_DFA_NEU_XX": "missing",
        "1001_DFA_HAP_XX": "pointer of Git LFS",
        "1001_DFA_SAD_XX": "truncated",
        "1001_DFA_FEA_XX": "silent",
        "1001_DFA_DIS_XX": "empty",
        "1002_DFA_NEU_XX": "zero frames",
        "1002_DFA_HAP_XX": "damaged",
        "1002_DFA_SAD_XX": "wrong size",
        f"train.csv:{last + 1}": "duplicate id",
        "test.csv:2": "id in two splits",
        f"train.csv:{last + 3}": "unknown class",
        f"train.csv:{last + 4}": "bad line",
        f"train.csv:{last + 5}": "mixed headers",
    }


def config(root, **options):
    return DataConfig.named("crema-d")(root=str(root), size=16, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_kind_of_fault_is_found(spoilt, workers):
    root, expected = spoilt
    told = []
    found = check(config(root), SPLITS, workers=workers, advance=lambda done, of: told.append((done, of)))
    assert {place: error.kind for place, error in found.faults.items()} == expected
    assert {"byte-order mark", "header"} <= {note.kind for note in found.notes}
    assert told[-1] == (len(found.dataset), len(found.dataset))
    for place, error in found.faults.items():
        assert str(root) in str(error) or "DFA" in str(error) or place in str(error)


def test_training_refuses_it_and_takes_the_list(spoilt, tmp_path, capsys):
    root, expected = spoilt
    with pytest.raises(UserError, match=r"the first of \d+ faults; all of them, .* cpsc data check crema-d --root"):
        config(root).open()
    skip = tmp_path / "skip.tsv"
    options = ["--set", "data.size=16", "--set", "splits.calibration=0.2", "--set", "splits.validation=0.2"]
    command = ["data", "check", "crema-d", "--root", str(root), "--workers", "0", "--skip-list", str(skip), *options]
    assert main(command) == 2
    out = capsys.readouterr().out
    assert "Faults" in out
    assert "pointer of Git LFS" in out
    assert f"{len(expected)} samples or lines are in" in " ".join(out.split())
    kept = config(root, skip=str(skip)).open()
    bad = {place for place in expected if ":" not in place}
    assert not bad & set(kept.ids)
    assert len(kept) == 60 - len(bad)
    assert len(kept.dropped) == len(expected)
    assert any("Git LFS" in reason for reason in kept.dropped)
    for modality in kept.modalities:
        values = kept.read(modality, np.arange(len(kept)))
        assert len(kept.inputs(modality, values)) == len(kept)
    row = kept.ids.index("1003_DFA_NEU_XX")
    whole = config(root).load()
    np.testing.assert_array_equal(
        kept.read("audio", np.array([row])), whole.read("audio", np.array([whole.ids.index("1003_DFA_NEU_XX")]))
    )


def test_a_list_that_is_out_of_date_or_unreadable(crema_native, tmp_path):
    skip = tmp_path / "skip.tsv"
    skip.write_text("1099_DFA_NEU_XX\tis missing\n")
    with pytest.raises(
        UserError, match="'1099_DFA_NEU_XX' is neither a sample nor a fault of crema-d: check the data again"
    ):
        config(crema_native, split="speaker", skip=str(skip)).open()
    skip.write_text("1001_DFA_NEU_XX\n")
    with pytest.raises(UserError, match=r"skip\.tsv:1: must be a sample or line, a tab and the reason"):
        config(crema_native, split="speaker", skip=str(skip)).open()
    with pytest.raises(UserError, match="cpsc data check writes one"):
        config(crema_native, split="speaker", skip=str(tmp_path / "none")).open()


def test_speakers_in_two_parts_are_noted_or_refused(layouts, tmp_path):
    root = layouts.crema_d(tmp_path)
    assert "speaker in two parts" not in {e.kind for e in check(config(root), SPLITS, by_group=True).faults.values()}
    (root / "train.csv").write_text(
        (root / "train.csv").read_text(encoding="utf-8-sig").replace("1001_DFA_NEU_XX,NEU\n", "")
    )
    with (root / "test.csv").open("a", encoding="utf-8") as file:
        file.write("1001_DFA_NEU_XX,NEU\n")
    asked = check(config(root), SPLITS, by_group=True)
    assert asked.faults["(speakers)"].kind == "speaker in two parts"
    assert "1001 is in" in str(asked.faults["(speakers)"])
    plain = check(config(root), SPLITS)
    assert not plain.faults
    assert "speakers" in {note.kind for note in plain.notes}


def test_one_file_under_two_names_is_noted(layouts, tmp_path):
    root = layouts.crema_d(tmp_path)
    shutil.copy(root / "AudioWAV" / "1001_DFA_NEU_XX.wav", root / "AudioWAV" / "1005_DFA_NEU_XX.wav")
    (note,) = [note for note in check(config(root), SPLITS).notes if note.kind == "same file in two parts"]
    assert "1001_DFA_NEU_XX" in str(note)
    assert "1005_DFA_NEU_XX of test" in str(note)


@pytest.mark.parametrize("columns", ["60", "400"])
def test_a_data_set_of_which_nothing_is_there(layouts, tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    root = layouts.crema_d(tmp_path / "crema")
    shutil.rmtree(root / "AudioWAV")
    assert main(["data", "check", "crema-d", "--root", str(root), "--workers", "0"]) == 2
    out = "".join(line.split("│")[3].strip() for line in capsys.readouterr().out.splitlines() if line.count("│") == 4)
    assert f"{root / 'AudioWAV'}/1001_DFA_NEU_XX.wav: is missing".replace(" ", "") in out.replace(" ", "")
    assert "therearenosamplestotrainon" in out.replace(" ", "")


def test_figures_of_balance():
    assert balance(np.array([30, 10])) == {"samples": 40, "majority": 0.75, "imbalance": 3.0}
    assert balance(np.array([3, 0]))["imbalance"] == np.inf


def test_the_command_says_how_it_is_used(capsys, tmp_path):
    assert main(["data", "list"]) == 0
    assert "nyu-depth-v2" in capsys.readouterr().out
    for arguments, said in (
        (["check"], "cpsc data check needs a name, one of arrays, av-digits, ave"),
        (["check", "cremad"], "did you mean 'crema-d'"),
        (["check", "crema-d", "--root", str(tmp_path / "no")], "no such folder"),
        (["check", "crema-d", "--set", "method.a=1"], "unknown key 'method' (known: data, splits)"),
        (["check", "crema-d", "--set", "data.sise=1"], "did you mean"),
        (["check", "crema-d", "--workers", "-1"], "--workers must be at least 0"),
        (["prepare", "crema-d"], "needs at least one of --extract"),
        (["check", "handwritten", "--by-speaker"], "does not name the speaker of a sample"),
    ):
        assert main(["data", *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_data_in_order_is_said_to_be(capsys):
    assert main(["data", "check", "handwritten", "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "no faults found" in out
    assert "2,000" in out


DYING = """
import os, signal

def at_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
"""


def test_a_process_that_dies_names_what_it_was_at(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)  # where other processes find it too, however the tests were started
    at_two = importlib.import_module("dying").at_two
    done = []
    with pytest.raises(UserError, match="a process died at c: a file there makes its decoder die, or memory ran out"):
        done += [number for number, _ in each(at_two, list("abcd"), 2)]
    assert sorted(number for number, _ in each(at_two, list("ab"), 2)) == [0, 1]


def test_the_first_of_a_kind_is_the_first_of_the_data_set(spoilt, monkeypatch):
    """Processes come to their ends in any order."""
    root, _ = spoilt
    monkeypatch.setattr(checking, "ROWS", 1)
    orders = []
    for step in (1, -1):
        ends = lambda work, names, _, step=step: [(k, work(k)) for k in range(len(names))][::step]  # noqa: E731
        monkeypatch.setattr(checking, "each", ends)
        found = check(config(root), SPLITS)
        orders.append(([*found.faults], [str(note) for note in found.notes]))
    assert orders[0] == orders[1]
