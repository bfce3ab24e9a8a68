"""What only a real process can show: signals, imports, entry points."""

import json
import os
import signal
import subprocess
import sys
import time

COMMAND = [sys.executable, "-m", "cpsc_train"]


def test_ctrl_c_leaves_a_usable_folder(tmp_path, quick):
    folder = tmp_path / "run"
    options = [*map(str, quick), "--epochs", "10000"]
    # A job in the background of a shell ignores the signal, and so would a process of a test that runs in one.
    process = subprocess.Popen(
        [*COMMAND, "train", "--out", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads before it
    )
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted; what is there so far: cpsc evaluate" in out
    assert "Traceback" not in err
    assert json.loads((folder / "environment.json").read_text())["status"] == "interrupted"
    again = subprocess.run([*COMMAND, "evaluate", str(folder)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "the run was not finished" in again.stdout


def test_help_does_not_wait_for_torch():
    code = "import sys, cpsc_train.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0
