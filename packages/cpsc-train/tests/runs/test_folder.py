import subprocess
import sys
from importlib import metadata

import pytest

from cpsc_train.data import Splits
from cpsc_train.errors import UserError
from cpsc_train.runs import RunFolder
from cpsc_train.training import resume, train

HOLD = """
import sys, time
from cpsc_train.runs import RunFolder
with RunFolder(sys.argv[1]).held():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(finished):
    """Another process that writes into the folder of the finished run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(finished)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock there")
def test_a_folder_has_one_writer_and_a_kill_lets_go(finished, holder):
    with pytest.raises(UserError, match="another process is training in it"), RunFolder(finished).held():
        pass
    holder.kill()
    holder.wait()
    with RunFolder(finished).held():
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock there")
def test_a_run_is_not_resumed_while_it_runs(finished, holder, cpsc):
    results = (finished / "results.json").read_bytes()
    (finished / "results.json").unlink()
    try:
        found = cpsc("train", "--resume", finished)
        assert (found.code, "another process is training in it" in found.err) == (2, True)
    finally:
        (finished / "results.json").write_bytes(results)


def test_what_killed_runs_leave_is_used_and_goes(small_config, tmp_path):
    """A run that was killed while it made its folder leaves one beside it, and one killed inside a write a file."""
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial/config.toml").write_text("epo")
    train(small_config, tmp_path / "run")
    (tmp_path / "run/results.json").rename(tmp_path / "run/results.json.partial")
    (tmp_path / "run/checkpoints/step-00000099.partial").write_bytes(b"half")
    resume(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_folder_is_there_whole_or_not_at_all(small_config, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Splits, "save", fail)
        with pytest.raises((KeyboardInterrupt, UserError)):
            train(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small_config, tmp_path / "run")


def test_what_is_selected_is_what_is_kept_wherever_a_run_is_killed(small_config, tmp_path, monkeypatch):
    """Killed between the two files, with a best epoch that the saved state does not have."""
    folder = RunFolder(tmp_path / "run")
    results = train(small_config, folder)
    newest = max(folder.checkpoints.iterdir())
    (folder.path / "results.json").unlink()
    for state in folder.checkpoints.iterdir():
        if state != newest:
            state.unlink()
    newest.unlink()  # before the first state was saved
    monkeypatch.setattr("cpsc_train.training.loop.metrics.accuracy", lambda _, labels: 0.0)  # no epoch is better now
    assert resume(folder)["selected"] == results["selected"]


def test_the_environment_names_the_decoders(finished):
    """Which colours a frame has depends on them."""
    pytest.importorskip("av", reason="videos are read by PyAV")
    versions = RunFolder(finished).read_environment()["versions"]
    assert versions["av"].startswith(f"{metadata.version('av')} (libavcodec ")
    assert versions["pillow"].startswith(f"{metadata.version('pillow')} (libjpeg ")
    assert versions["soundfile"].startswith(f"{metadata.version('soundfile')} (libsndfile ")
