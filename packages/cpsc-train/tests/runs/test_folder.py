import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata

import pytest

from cpsc_train.data import Splits
from cpsc_train.errors import UserError
from cpsc_train.runs import RunFolder
from cpsc_train.training import resume, train
from cpsc_train.writing import locked

HOLD = """
import sys, time
from cpsc_train.runs import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(finished):
    """Another process that has locked the folder of the finished run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(finished)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_has_one_writer_and_a_kill_lets_go(finished, holder):
    with pytest.raises(UserError, match="another process is training in it"), RunFolder(finished).locked():
        pass
    holder.kill()
    holder.wait()
    with RunFolder(finished).locked():
        pass


def test_a_run_is_not_resumed_while_it_runs(finished, holder, cpsc):
    results = (finished / "results.json").read_bytes()
    (finished / "results.json").unlink()
    try:
        outcome = cpsc("train", "--resume", finished)
        assert (outcome.code, "another process is training in it" in outcome.err) == (2, True)
    finally:
        (finished / "results.json").write_bytes(results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked there")
def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked there")
def test_a_killed_process_releases_the_lock_whose_forked_child_lives(tmp_path):
    code = "import os, sys, time; from pathlib import Path; from cpsc_train.writing import locked\n"
    code += "with locked(Path(sys.argv[1])): os.write(1, b'%d\\n' % os.fork()); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        child = max(int(parent.stdout.readline()) for _ in "ab")  # both have returned from the fork
        parent.kill()
        parent.wait()
        try:
            with locked(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    def refuse(_lock, **_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("cpsc_train.writing.FileLock.acquire", refuse)
    with locked(tmp_path):
        pass


def test_files_left_by_killed_runs_are_reused_or_removed(small_config, tmp_path):
    """A partial folder beside its place, or a partial file."""
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial/config.toml").write_text("epo")
    train(small_config, tmp_path / "run")
    (tmp_path / "run/results.json").rename(tmp_path / "run/results.json.partial")
    (tmp_path / "run/checkpoints/step-00000099.partial").mkdir()
    resume(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_folder_is_created_completely_or_not_at_all(small_config, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Splits, "save", fail)
        with pytest.raises((KeyboardInterrupt, UserError)):
            train(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small_config, tmp_path / "run")


def test_the_selected_epoch_is_the_saved_one_wherever_a_run_is_killed(small_config, tmp_path, monkeypatch):
    """Killed after the best epoch was saved and before the state was."""
    folder = RunFolder(tmp_path / "run")
    results = train(small_config, folder)
    (folder.path / "results.json").unlink()
    shutil.rmtree(folder.checkpoints)  # before the first state was saved
    monkeypatch.setattr("cpsc_train.evaluation.metrics.accuracy", lambda _, labels: 0.0)  # no epoch is better now
    assert resume(folder)["selected"] == results["selected"]


def test_the_environment_names_the_decoders(finished):
    """Pixels of a frame depend on them."""
    pytest.importorskip("av", reason="videos are read by PyAV")
    versions = RunFolder(finished).read_environment()["versions"]
    assert versions["av"].startswith(f"{metadata.version('av')} (libavcodec ")
    assert versions["pillow"].startswith(f"{metadata.version('pillow')} (libjpeg ")
    assert versions["soundfile"].startswith(f"{metadata.version('soundfile')} (libsndfile ")
