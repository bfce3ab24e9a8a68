"""A store that drops connections, or answers short, with an error, other bytes, late, never, or with a redirect.

Training reads the data set through fsspec from a server on this machine. Temporary faults must not change the results;
permanent ones must end the command in bounded time, with one sentence that names the file and the tar file; a wrong
byte is never accepted. Needs aiohttp and werkzeug. About three minutes on two cores.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import torch
from _trials import Trials, helper, options, outcome, start, workplace

from cpsc_train.data.storage import store
from cpsc_train.training import train  # noqa: F401  # import torch before forking, which keeps trials short

FAULTS = ("drop", "short", "500", "other bytes", "slow", "redirect")
"""Faults of a fraction of the answers; `slow` and `redirect` deliver the right bytes."""


def served(folder: Path) -> object:
    """Return a WSGI application that serves the files of a folder."""
    from werkzeug.exceptions import NotFound  # noqa: PLC0415  # may be absent
    from werkzeug.utils import send_file  # noqa: PLC0415

    def answer(request: dict[str, str], start: object) -> object:
        file = folder / request["PATH_INFO"].strip("/")
        return (send_file(file, request) if file.is_file() else NotFound())(request, start)

    return answer


def main() -> int:
    """Train from a store with each fault."""
    asked = options(__doc__)
    trials = Trials()
    if not all(importlib.util.find_spec(name) for name in ("aiohttp", "werkzeug")):
        trials.row("stores", "skipped: aiohttp and werkzeug are not installed", ok=True)
        return trials.exit_code()
    torch.set_num_threads(1)
    store.PATIENCE, store.PAUSES = 2.0, (0.1, 0.2, 0.4)
    with workplace() as place:
        log, files, packed = place / "log", helper("data/layouts").crema_d(place / "files"), place / "packed"
        settings = ["data.size=16", "encoders.audio.name=small-cnn", "encoders.video.name=small-cnn", "batch_size=8"]
        settings += ["feature_dim=8", "method.warmup=1", "splits.calibration=12", "leave_out=false"]
        settings += ["compute.workers=0"]
        words = ["train", "-q", "--recipe", "crema-d", "--epochs", "2", "--mode", "ours"]
        words += [word for one in settings for word in ("--set", one)]
        done(["data", "prepare", "crema-d", "--root", files, "--workers", 0, "--shards", packed], log)
        done([*words, "--root", files, "--out", place / "whole"], log)
        server = helper("faulty_server").Server(served(packed), pause=60, seed=asked.seed)
        for fault in ("", "cut", *FAULTS):
            server.inject(fault, 0.1)
            out = place / f"run-{fault}"
            code = done([*words, "--root", server.address, "--out", out], log)
            same = (out / "results.json").exists() and outcome(out)[1:] == outcome(place / "whole")[1:]
            what = f"{fault} in {server.faults} answers" if fault else "no fault"
            trials.row(what, f"exit code {code}, same outcome: {same}", ok=same)
        for fault in ("drop", "cut", "short", "500", "other bytes", "hang", "loop"):
            server.inject("", 0)
            out = place / f"down-{fault}"
            pid = start([*words, "--set", "epochs=500", "--root", server.address, "--out", out], log)
            while not (out / "metrics.jsonl").exists():
                time.sleep(0.1)
            server.inject(fault, 1)
            began = time.monotonic()
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            took, text = time.monotonic() - began, log.read_text().strip()
            ok = code == 2 and text.startswith("cpsc: error:") and ".tar" in text and "\n" not in text
            trials.row(f"{fault}, permanent", f"exit code {code} after {took:.1f} s: {text}", ok=ok)
        server.inject("", 0)
        code = done(["train", "-q", "--resume", place / "down-hang"], log, seconds=5)
        trials.row(
            "store back, resumed", f"still running after 5 s: {code == -signal.SIGKILL}", ok=code == -signal.SIGKILL
        )
    return trials.exit_code()


def done(words: list[object], log: Path, seconds: float = 300) -> int:
    """Run the command to its end, or kill it after so many seconds, and return its exit code."""
    pid, deadline = start(words, log), time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
