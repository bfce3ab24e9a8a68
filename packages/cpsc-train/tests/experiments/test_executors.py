"""Executors: local processes with GPUs, and jobs of Slurm."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpsc_train.cli import main
from cpsc_train.errors import UserError
from cpsc_train.experiments import Grid
from cpsc_train.experiments.executors import Executor, Local, Ray, Slurm, local, slurm
from cpsc_train.experiments.task import Task
from cpsc_train.output import Output

DEFAULTS = ["--methods", "joint", "--seeds", "0,1", "-q"]


@pytest.fixture
def tasks(tmp_path):
    return [Task(f"seed {seed}", tmp_path / f"runs/seed-{seed}") for seed in range(4)]


@pytest.fixture
def trained(monkeypatch):
    """Instead of training, note how it was called."""
    calls = []

    def train(task, **options):
        calls.append((task, options))
        time.sleep(0.02)
        return 3 if task.label == "seed 3" else 0

    monkeypatch.setattr(Task, "train", train)
    monkeypatch.setattr(slurm, "POLL", 0.01)
    return calls


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # logs that submitit leaves open
@pytest.mark.parametrize("executor", [Local(jobs=2), Slurm(cluster="debug")], ids=["local", "slurm"])
def test_each_task_runs_once_and_has_its_exit_code(executor, tasks, trained, tmp_path):
    if executor.name == "slurm":
        pytest.importorskip("submitit", reason="the extra slurm is not installed")
    codes = dict(executor.run(tasks, tmp_path / "runs"))
    assert codes == {task: 3 if task is tasks[3] else 0 for task in tasks}
    assert Counter(task for task, _ in trained) == Counter(tasks)


def test_parallel_processes_take_turns_on_the_visible_gpus(tasks, trained, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert local.visible_gpus() == ["4", "6"]
    list(Local(jobs=2).run(tasks, tmp_path))
    assert {options["gpu"] for _, options in trained} == {"4", "6"}
    trained.clear()
    list(Local(jobs=1).run(tasks, tmp_path))
    assert {options["gpu"] for _, options in trained} == {None}  # a single run may use all


def test_a_dry_run_prints_the_job_array_and_submits_nothing(tmp_path, capsys):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    out = tmp_path / "b"
    executor = ["--executor", "slurm:partition=long:gpus=1", "--jobs", "7"]
    assert main(["benchmark", *DEFAULTS, "--out", str(out), *executor, "--dry-run"]) == 0
    text = capsys.readouterr().out
    for line in ("start joint seed 1:", "--array=0-1%2\n", "--partition=long\n", "--gpus-per-node=1\n", "--time=240\n"):
        assert line in text
    assert not out.exists()


def test_a_dry_run_of_a_search_prints_the_job_of_a_trial(tmp_path, capsys):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    assert main(["tune", "--methods", "joint", "--trials", "3", "--out", str(tmp_path / "t"), "--dry-run"]) == 0
    assert "start each of 3 trials of joint" in capsys.readouterr().out
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--executor", "slurmm"], "unknown executor 'slurmm'; did you mean 'slurm'?"),
        (["--executor", "slurm:cpus=0"], "executor 'slurm:cpus=0': slurm.cpus must be at least 1, got 0"),
        (["--executor", "slurm:queue=a"], "unknown key 'queue'"),
        (["--executor", "local:gpus=1"], "unknown key 'gpus'"),
        (["--jobs", "0"], "jobs must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, message, tmp_path, capsys):
    assert main(["ablate", "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_without_srun_one_sentence_says_where_to_run(tasks, monkeypatch, tmp_path):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="needs srun: run the command on a login node"):
        list(Slurm().run(tasks, tmp_path))


def test_ray_that_cannot_start_is_one_sentence(tasks, monkeypatch, tmp_path):
    def init(*_, **__):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match=r"^Ray cannot be reached or started \(.*timed out during startup\.\): check"):
        list(Ray().run(tasks, tmp_path))


SBATCH = """#!/bin/sh
echo "$@" >> {0}/submitted
echo "Submitted batch job 71"
"""
SACCT = """#!/bin/sh
printf 'JobID|State\\n71_0|PENDING\\n71_1|%s\\n' "$(cat {0}/state)"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm runs on Linux")
def test_the_same_command_waits_for_jobs_in_the_queue(tasks, monkeypatch, tmp_path):
    """Its first process was killed after it had submitted; then one of the two jobs is cancelled."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in {"srun": "#!/bin/sh\n", "sbatch": SBATCH, "sacct": SACCT}.items():
        (bin_ / name).write_text(text.format(tmp_path))
        (bin_ / name).chmod(0o755)
    (tmp_path / "state").write_text("PENDING")
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "runs").mkdir()
    executor, two = Slurm(jobs=2), tasks[:2]
    assert sorted(job.job_id for job in executor._submitted(two, tmp_path / "runs").values()) == ["71_0", "71_1"]
    assert set(executor._attached(two, tmp_path / "runs")) == set(two)
    (tmp_path / "state").write_text("CANCELLED")
    assert set(executor._attached(two, tmp_path / "runs")) == {two[0]}
    assert len((tmp_path / "submitted").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
def test_a_preempted_job_is_requeued_and_its_run_resumes(small_config, tmp_path):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    grid = Grid(tmp_path, {"a": replace(small_config, epochs=60, patience=None)}, [0])
    results = []
    executor = Slurm(cluster="local")
    thread = threading.Thread(target=lambda: results.append(grid.run(executor=executor, console=Output(quiet=True))))
    thread.start()
    folder = grid.path("a", 0)
    wait(lambda: len(lines(folder / "metrics.jsonl")) > 2)
    (job,) = running(b"submitit.core._submit")
    os.kill(job, signal.SIGUSR2)
    thread.join(240)
    assert [run["seed"] for run in results[0]["a"]] == [0]
    epochs = [json.loads(line)["epoch"] for line in lines(folder / "metrics.jsonl")]
    assert epochs == sorted(set(epochs))
    log = "".join(path.read_text() for path in (tmp_path / "slurm").glob("*_log.*"))
    assert "Requeued job" in log


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Ray itself
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("package", "executor", "process"),
    [("ray", Ray(), b"ray::_train"), ("submitit", Slurm(cluster="local"), b"submitit.core._submit")],
    ids=["ray", "slurm"],
)
def test_a_run_whose_process_is_killed_is_completed(package, executor, process, small_config, tmp_path, monkeypatch):
    """By Ray at once, and by the same command where an executor does not start a process again."""
    library = pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    config = replace(small_config, epochs=60, patience=None)
    grid, undisturbed = (Grid(tmp_path / name, {"a": config}, [0]) for name in ("killed", "undisturbed"))
    ended = []

    def train():
        try:
            ended.append(grid.run(executor=executor, console=Output(quiet=True)))
        except UserError as error:
            ended.append(str(error))

    thread = threading.Thread(target=train)
    thread.start()
    metrics = grid.path("a", 0) / "metrics.jsonl"
    wait(lambda: len(lines(metrics)) > 2)
    for pid in running(process):
        os.kill(pid, signal.SIGKILL)
    thread.join(240)
    if isinstance(ended[0], str):
        assert "run the same command to resume it" in ended[0]
        train()
    if package == "ray":
        library.shutdown()
    expected = undisturbed.run(executor=Local(), console=Output(quiet=True))
    assert [run["test"] for run in ended[-1]["a"]] == [run["test"] for run in expected["a"]]
    epochs = [json.loads(line)["epoch"] for line in lines(metrics)]
    assert epochs == sorted(set(epochs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Ray itself
def test_tasks_of_ray_train_and_fail(small_config, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    good = replace(small_config, epochs=3, patience=None)
    bad = replace(good, data=replace(good.data, file="absent.npz"))
    grid = Grid(tmp_path, {"good": good, "bad": bad}, [0])
    before = signal.getsignal(signal.SIGTERM)
    try:
        results = grid.run(executor=Ray(jobs=2), console=Output(quiet=True), keep_going=True)
    finally:
        ray.shutdown()
    assert list(results) == ["good"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert "absent.npz" in grid.path("bad", 0).with_suffix(".log").read_text()


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def running(name):
    """Process ids of the descendants of this process with a name in their command line."""
    return [pid for pid in descendants(os.getpid()) if name in command_line(pid)]


def descendants(process):
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def command_line(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def wait(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_executor_documents_its_options():
    assert set(Executor.members) >= {"local", "slurm", "ray"}
    assert all(member.__doc__ for member in Executor.members.values())
