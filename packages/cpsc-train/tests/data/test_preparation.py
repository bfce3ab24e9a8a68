"""Frames taken out, decoded caches, packed shards: each is read as the files are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numpy as np
import pytest

from cpsc_train.cli import main
from cpsc_train.data import DataConfig, SplitConfig, Splits, preparation
from cpsc_train.data.media import decoders
from cpsc_train.data.preparation import work as working
from cpsc_train.data.storage import cache
from cpsc_train.errors import UserError
from crema_d import config, same

SPLITS = SplitConfig(calibration=0.2, validation=0.2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_is_read_as_the_files_are(crema_native, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(cache, "CHUNK", 16)
    out = tmp_path / "cache"
    assert preparation.fill_cache(config(crema_native), out, workers=workers) > 0
    assert len(list(out.glob("video-*.bin"))) == 4
    cached = config(crema_native, cache=str(out)).open()
    assert cached.cached
    same(config(crema_native).open(), cached)
    assert preparation.fill_cache(config(crema_native), out) == 0  # all is there


def test_a_cache_goes_on_where_it_was_stopped(crema_native, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 16)
    out = tmp_path / "cache"
    preparation.fill_cache(config(crema_native), out)
    for name in ("video-00002.json", "audio-00001.json"):
        (out / name).unlink()
    with pytest.raises(UserError, match=r"00\d\.json is not there: fill the folder with cpsc data prepare --cache"):
        config(crema_native, cache=str(out)).open()
    before = (out / "video-00000.bin").stat().st_mtime_ns
    assert preparation.fill_cache(config(crema_native), out) > 0
    assert (out / "video-00000.bin").stat().st_mtime_ns == before
    same(config(crema_native).open(), config(crema_native, cache=str(out)).open())


def test_a_cache_of_other_options_is_refused(crema_native, tmp_path):
    out = tmp_path / "cache"
    preparation.fill_cache(config(crema_native), out)
    config(crema_native, cache=str(out), size=32, frames=1).open()  # of which a cache does not depend
    with pytest.raises(
        UserError, match=r"was made with other options, decoders or samples, namely .*\"seconds\": 3\.0"
    ):
        config(crema_native, cache=str(out), seconds=2.0).open()
    with pytest.raises(UserError, match="holds a cache of other options"):
        preparation.fill_cache(config(crema_native, fps=3.0), out)
    (out / "cache.json").write_text("[]")
    with pytest.raises(UserError, match="is not a readable cache"):
        config(crema_native, cache=str(out)).open()


def test_a_cache_of_other_decoders_is_refused(crema_native, tmp_path, monkeypatch):
    """One release of PyAV differed from the next by 13 grey levels."""
    out = tmp_path / "cache"
    preparation.fill_cache(config(crema_native), out)
    config(crema_native, cache=str(out)).open()
    version = metadata.version
    for package, told in (("av", "video"), ("soundfile", "audio")):
        with monkeypatch.context() as patched:
            patched.setattr(decoders, "version", lambda name, p=package: "0.0" if name == p else version(name))
            with pytest.raises(UserError, match=rf"made with other options, decoders or samples.*\"{told}\".*decoders"):
                config(crema_native, cache=str(out)).open()
            with pytest.raises(UserError, match="holds a cache of other options"):
                preparation.fill_cache(config(crema_native), out)
    with monkeypatch.context() as patched:  # on which nothing here depends
        patched.setattr(decoders, "version", lambda name: "0.0" if name == "pillow" else version(name))
        config(crema_native, cache=str(out)).open()


def test_a_cache_without_what_a_skip_list_names(crema_native, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(crema_native, root)
    (root / "VideoFlash" / "1001_DFA_NEU_XX.flv").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"1001_DFA_NEU_XX\.flv: is not a readable video"):
        preparation.fill_cache(config(root), tmp_path / "none")
    skip = tmp_path / "skip.tsv"
    skip.write_text("1001_DFA_NEU_XX\tis no video\n")
    preparation.fill_cache(config(root, skip=str(skip)), tmp_path / "cache")
    kept = config(root, skip=str(skip), cache=str(tmp_path / "cache")).open()
    assert len(kept) == 59
    assert np.isfinite(kept.read("video", np.arange(59))).all()
    with pytest.raises(UserError, match="1001_DFA_NEU_XX is not in it, since it was left out"):
        config(root, cache=str(tmp_path / "cache")).open().read("video", np.arange(60))


def test_frames_and_sound_are_taken_out(crema_native, tmp_path):
    out = tmp_path / "out"
    assert preparation.extract(config(crema_native), out, workers=2) == 60
    native, derived = config(crema_native).open(), config(out).open()
    rows = np.arange(0, 60, 7)
    assert list(native.ids) == list(derived.ids)
    np.testing.assert_allclose(derived.read("audio", rows), native.read("audio", rows), atol=2 / 2**15)
    np.testing.assert_allclose(derived.read("video", rows), native.read("video", rows), atol=3)  # JPEG
    gone = out / "Image-01-FPS" / native.ids[0]
    shutil.rmtree(gone)
    assert preparation.extract(config(crema_native), out) == 60
    assert len(list(gone.iterdir())) == 3


def test_lists_come_along(layouts, tmp_path):
    root = layouts.ave_native(tmp_path / "ave")
    ave = DataConfig.named("ave")(root=str(root), size=16)
    preparation.extract(ave, tmp_path / "out")
    taken = DataConfig.named("ave")(root=str(tmp_path / "out"), size=16).open()
    assert list(taken.ids) == list(ave.open().ids)
    rows = np.arange(4)
    np.testing.assert_allclose(taken.read("video", rows), ave.open().read("video", rows), atol=3)


def test_divisions_are_written_and_taken(crema_native, tmp_path):
    for by in ("speaker", "stratified"):
        file = tmp_path / f"{by}.json"
        written = preparation.write_splits(config(crema_native, split="stratified"), SPLITS, file, by)
        dataset = config(crema_native, split="stratified").open()
        taken = Splits.of(dataset, SplitConfig(file=str(file)))
        assert taken.sizes == written.sizes
        tested = {dataset.groups[row] for row in taken.test}
        assert tested.isdisjoint(dataset.groups[row] for row in taken.train) == (by == "speaker")
    with pytest.raises(UserError, match="has no official division here"):
        preparation.write_splits(config(crema_native, split="stratified"), SPLITS, tmp_path / "x.json", "official")
    with pytest.raises(UserError, match="does not name the speaker of a sample"):
        preparation.write_splits(DataConfig.named("handwritten")(), SPLITS, tmp_path / "x.json", "speaker")


def test_a_disk_that_is_too_small(crema_native, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 10**3, 10**3))
    for work in (
        lambda: preparation.fill_cache(config(crema_native), tmp_path / "a"),
        lambda: preparation.pack(config(crema_native), str(tmp_path / "b")),
        lambda: preparation.extract(config(crema_native), tmp_path / "c"),
    ):
        with pytest.raises(UserError, match=r"GB are needed, and 0\.0 GB are free"):
            work()
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_needs_no_room(crema_native, tmp_path, monkeypatch):
    out = tmp_path / "cache"
    preparation.fill_cache(config(crema_native), out)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 10**3, 10**3))
    assert preparation.fill_cache(config(crema_native), out) == 0


def test_what_cannot_be_prepared_is_said(tmp_path):
    handwritten = DataConfig.named("handwritten")()
    with pytest.raises(UserError, match="is embedded: there is nothing to pack"):
        preparation.pack(handwritten, str(tmp_path))
    with pytest.raises(UserError, match="nothing to cache"):
        preparation.fill_cache(handwritten, tmp_path)
    with pytest.raises(UserError, match="only recordings with sound and frames"):
        preparation.extract(handwritten, tmp_path)


def test_the_command_prepares_and_says_what_to_do_then(crema_native, tmp_path, capsys):
    options = ["--root", str(crema_native), "--workers", "0", "--set", "data.split=stratified"]
    options += ["--set", "splits.calibration=0.2", "--set", "splits.validation=0.2"]
    out = {name: str(tmp_path / name) for name in ("extract", "cache", "shards", "splits")}
    given = [part for name, path in out.items() for part in (f"--{name}", path)]
    assert main(["data", "prepare", "crema-d", *options, *given, "--by", "speaker"]) == 0
    said = capsys.readouterr().out
    for hint in (f"splits.file={out['splits']}", f"--root {out['extract']}", f"data.cache={out['cache']}"):
        assert hint in said


def test_a_preparation_that_was_killed_goes_on(crema_native, tmp_path):
    """As where it wrote its head: half of it was there, and every later attempt was refused."""
    for folder in ("cache", "shards"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cache/cache.json").write_text('{"ha')
    (tmp_path / "cache/video-00000.json.1.partial").write_text("{")
    (tmp_path / "shards/packing.json").write_text('{"ha')
    (tmp_path / "shards/lists.json").write_text('{"ver')
    preparation.fill_cache(config(crema_native), tmp_path / "cache")
    assert len(config(crema_native, cache=str(tmp_path / "cache")).open()) == 60
    preparation.pack(config(crema_native), str(tmp_path / "shards"))
    assert len(config(tmp_path / "shards").open()) == 60


@pytest.mark.parametrize("prepare", [preparation.fill_cache, preparation.pack, preparation.extract])
def test_a_prepared_folder_has_one_writer(crema_native, tmp_path, prepare):
    code = "import sys; from pathlib import Path; from cpsc_train.writing import locked\n"
    code += "with locked(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as other:
        other.stdout.readline()
        out = str(tmp_path) if prepare is preparation.pack else tmp_path
        with pytest.raises(UserError, match=r"another process is (filling|packing|taking)"):
            prepare(config(crema_native), out)
        other.stdin.close()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_of_several_failures_the_first_is_told(monkeypatch):
    """Whichever process comes to its own first."""
    monkeypatch.setattr(working, "ProcessPoolExecutor", lambda count, _context, **_: ThreadPoolExecutor(count))

    def fail(number):
        time.sleep(0.2 * (number == 0))
        raise UserError(f"sample {number}")

    monkeypatch.setattr(working, "_work", [fail])
    with pytest.raises(UserError, match="sample 0"):
        list(working.each(fail, list("abcd"), workers=2))
