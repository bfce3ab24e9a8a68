"""How commands end when they are told to, when nobody reads them, and when the machine refuses."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpsc_train import interrupts
from cpsc_train.cli import main
from cpsc_train.errors import JobError, UserError
from cpsc_train.output import Output
from cpsc_train.training.distributed import lost_another

COMMAND = [sys.executable, "-m", "cpsc_train"]


def start(*words, **how):
    # A job in the background of a shell ignores the signal, and so would a process of a test that runs in one.
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=how.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=default,  # noqa: PLW1509  # no threads before it
    )


def wait_for(path, pattern):
    deadline = time.monotonic() + 120
    while not list(path.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return next(iter(path.glob(pattern)))


@pytest.mark.parametrize("words", [["export", "--help"], ["recipes", "list"]])
def test_nobody_reads_a_command(words):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*words, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


def test_a_run_that_nobody_reads_can_go_on(tmp_path, quick, monkeypatch, cpsc):
    with monkeypatch.context() as patch:
        patch.setattr(Output, "print", lambda self, *_, **__: self.on_broken_pipe())
        assert main(["train", "--out", str(tmp_path / "run"), *map(str, quick)]) == 141
    assert '"interrupted"' in (tmp_path / "run/environment.json").read_text()
    assert cpsc("train", "--resume", tmp_path / "run").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("columns", ["80", "400"])  # less and more than the buffer of the output
def test_output_that_is_full_is_the_users_to_mend(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    with Path("/dev/full").open("wb") as full:
        process = start("recipes", "list", stdout=full)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (2, "cpsc: error: output: No space left on device\n")


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, 2), (errno.ENOSPC, 2), (errno.ENOENT, 1)])
def test_what_the_machine_refuses_is_no_fault_of_ours(cpsc, monkeypatch, tmp_path, number, code):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr("cpsc_train.training.train", refuse)
    found = cpsc("train", "--out", tmp_path / "run")
    assert found.code == code
    assert (f"cpsc: error: somewhere: {os.strerror(number)}\n" in found.err) == (code == 2)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array with shape (1073741824,) and data type float64"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: Error code 12"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out_is_one_sentence(cpsc, monkeypatch, tmp_path, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("cpsc_train.training.train", refuse)
    found = cpsc("train", "--out", tmp_path / "run")
    assert found.code == 2
    assert found.err.startswith("cpsc: error: out of memory (")
    assert found.err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_with_runs_of_its_own_ends_them(tmp_path, quick, number, code):
    """Told alone, as `kill` does; what it has started ends too, and the command goes on later."""
    words = ["train", "--seeds", "0..1", "--out", tmp_path / "seeds", *quick]
    process = start(*words, "--set", "epochs=100000")
    log = wait_for(tmp_path / "seeds", "*/seed-0/metrics.jsonl")
    child = max(_descendants(process.pid))  # the youngest; the others start it
    for _ in range(3):  # what comes soon after the first counts with it
        process.send_signal(number)
        time.sleep(0.1)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "cpsc: interrupted\n")
    assert not Path(f"/proc/{child}").exists()
    assert '"interrupted"' in (log.parent / "environment.json").read_text()


WORK = """
import os, pathlib, sys, time
def work(number):
    pathlib.Path(sys.argv[0]).with_suffix(f".{os.getpid()}").touch()
    time.sleep(60)
"""
CALLS = """
from cpsc_train.data.processes import clean_context
from cpsc_train.interrupts import end_with_parent
def run():
    end_with_parent()
    work(0)
if __name__ == "__main__":
    process = clean_context().Process(target=run)
    process.start()
    process.join()
"""
POOLS = """
from cpsc_train.data.preparation.work import each
if __name__ == "__main__":
    list(each(work, ["one"], 1))
"""


@pytest.mark.parametrize("starts", [CALLS, pytest.param(POOLS, marks=pytest.mark.slow)])
def test_what_a_killed_process_has_started_ends_with_it(tmp_path, starts):
    """So that the same command can go on at once, and nothing is written twice."""
    script = tmp_path / "script.py"
    script.write_text(WORK + starts)
    process = subprocess.Popen([sys.executable, script])
    started = wait_for(tmp_path, "script.[0-9]*").suffix[1:]
    process.kill()
    process.wait()
    _gone(started)


def _gone(pid, seconds=10):
    """Wait until a process is no more, or is a zombie, which the first process of a container may leave."""
    stat, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + seconds
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def _descendants(pid):
    lists = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    children = {int(child) for words in lists for child in words}
    return children.union(*map(_descendants, children))


def test_a_signal_while_it_starts_has_the_same_code():
    process = start("recipes", "list", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    caught = f"/proc/{process.pid}/status"
    while time.monotonic() < deadline:  # until it listens to SIGTERM
        mask = next(line for line in Path(caught).read_text().splitlines() if line.startswith("SigCgt"))
        if int(mask.split()[1], 16) & 1 << (signal.SIGTERM - 1):
            break
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err


@pytest.mark.parametrize(("error", "told"), [(JobError("another is gone"), True), (UserError("bad data"), False)])
def test_whichever_process_is_left_says_that_another_is_gone(cpsc, monkeypatch, tmp_path, error, told):
    """The first process, which says everything else, may be the one that is gone."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("cpsc_train.training.train", refuse)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    found = cpsc("train", "--out", tmp_path / "run")
    assert (found.code, found.err) == (2, f"cpsc: error: {error}\n" * told)


@pytest.mark.parametrize("command", [["report", "RUN"], ["methods", "list"], ["train", "--seeds", "0..1"]])
def test_a_command_that_several_processes_would_repeat_is_refused(cpsc, monkeypatch, command):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    found = cpsc(*command)
    assert found.code == 2
    assert re.fullmatch(r"cpsc: error: cpsc .* needs one process, got 2: start it without torchrun\n", found.err)


@pytest.mark.parametrize(
    "text", ["[gloo/transport/tcp/pair.cc:561] Connection closed", "Application timeout caused pair closure"]
)
def test_what_gloo_says_of_another_process_is_known(monkeypatch, text):
    assert not lost_another(RuntimeError(text))  # of no job
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    assert lost_another(RuntimeError(text))
    assert not lost_another(RuntimeError("shapes differ"))


@pytest.mark.parametrize("error", [RuntimeError("[gloo] Connection closed"), UserError("a process died")])
def test_what_becomes_of_an_interrupt_is_an_interrupt(cpsc, monkeypatch, tmp_path, error):
    def confused(*_, **__):
        raise error

    monkeypatch.setattr("cpsc_train.training.train", confused)
    monkeypatch.setattr(interrupts, "_first", [(signal.SIGTERM, time.monotonic())])
    found = cpsc("train", "--out", tmp_path / "run")
    assert (found.code, found.err) == (143, "cpsc: interrupted\n")


def test_an_interrupt_that_was_swallowed_is_found_at_the_next_step(cpsc, monkeypatch, tmp_path, quick):
    """As where it comes inside a callback before a fork, in which nothing can be raised."""
    monkeypatch.setattr(interrupts, "_first", [(signal.SIGTERM, time.monotonic())])
    found = cpsc("train", "--out", tmp_path / "run", *quick)
    assert (found.code, found.err) == (143, "cpsc: interrupted\n")
    assert '"interrupted"' in (tmp_path / "run/environment.json").read_text()
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.fixture
def told(monkeypatch):
    """The handler of signals, with nothing of this process's own changed."""
    monkeypatch.setattr(interrupts, "_first", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return lambda number: interrupts._handle(number, None)


def test_a_signal_waits_while_processes_start(monkeypatch):
    monkeypatch.setattr(interrupts, "_first", [])
    before, reached = signal.signal(signal.SIGTERM, interrupts._handle), []

    def start_processes():
        with interrupts.deferred():
            with interrupts.deferred():
                signal.raise_signal(signal.SIGTERM)
                reached.append("inner")
            reached.append("outer")

    try:
        with pytest.raises(interrupts.Terminated):
            start_processes()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert reached == ["inner", "outer"]


@pytest.mark.parametrize(("daemon", "killed"), [(True, True), (False, False)])
def test_processes_that_only_read_are_killed_by_the_first_signal(told, monkeypatch, daemon, killed):
    """Told to end, a process that is being started would print a traceback; one that writes comes to its end."""
    calls = []
    process = SimpleNamespace(daemon=daemon, kill=lambda: calls.append("kill"))
    monkeypatch.setattr("multiprocessing.active_children", lambda: [process])
    with pytest.raises(KeyboardInterrupt):
        told(signal.SIGINT)
    assert bool(calls) is killed


@pytest.mark.parametrize("first", [True, False])
def test_what_comes_of_being_ended_is_not_told(monkeypatch, capsys, first):
    monkeypatch.setattr(interrupts, "_first", [(signal.SIGTERM, time.monotonic())] if first else [])
    error = AttributeError("'_MultiProcessingDataLoaderIter' object has no attribute '_workers'")
    lost = SimpleNamespace(exc_type=AttributeError, exc_value=error, exc_traceback=None, err_msg=None, object=None)
    monkeypatch.setattr(sys, "__unraisablehook__", lambda lost: sys.stderr.write(str(lost.exc_value)))
    interrupts._unraisable(lost)
    assert ("_workers" in capsys.readouterr().err) is not first


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_while_its_readers_start_is_quiet(tmp_path, quick, number, code, delay):
    """The whole group of processes gets the signal, as from a terminal or a scheduler."""
    process = start("train", "--out", tmp_path / "run", *quick, "--epochs", "1000", "--set", "compute.workers=4")
    wait_for(tmp_path, "run/config.toml")
    time.sleep(delay)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, "cpsc: interrupted\n")
