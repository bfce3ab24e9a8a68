"""A store that drops connections, or answers short, with an error, other bytes, late, never, or with a redirect.

Training reads the data set through fsspec from a server on this machine. Temporary faults must not change the results;
permanent ones must end the command in bounded time, with one sentence that names the file and the tar file; a wrong
byte is never accepted. Needs aiohttp. About three minutes on two cores.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from _trials import Trials, layouts, options, outcome, start, workplace

from cpsc_train.data.storage import store
from cpsc_train.training import train  # noqa: F401  # import torch before forking, which keeps trials short

FAULTS = ("drop", "short", "500", "other bytes", "slow", "redirect")
"""Faults of a fraction of the answers; `slow` and `redirect` deliver the right bytes."""


class Server(ThreadingHTTPServer):
    """Serves ranges of files in a folder, a fraction of them with a fault."""

    daemon_threads = True

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.draw = folder, random.Random(seed)
        self.fault, self.fraction, self.faults = "", 0.0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Address of the data set."""
        return f"http://127.0.0.1:{self.server_port}"

    def inject(self, fault: str, fraction: float) -> None:
        """Give a fraction of all further answers this fault."""
        self.fault, self.fraction, self.faults = fault, fraction, 0

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


class Answer(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Send the bytes, or the fault."""
        server, fault = self.server, ""
        if server.draw.random() < server.fraction and not self.path.endswith("?again"):
            fault, server.faults = server.fault, server.faults + 1
        file = server.folder / self.path.strip("/").partition("?")[0]
        if not file.is_file():
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        content = file.read_bytes()
        if wanted:
            content = content[int(wanted[1]) : int(wanted[2]) + 1]
        if fault == "500":
            self.send_error(500)
        elif fault == "redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.path}?again")
            self.end_headers()
        elif fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        elif fault == "hang":
            time.sleep(60)
        elif fault != "drop":
            self._give(content, fault, partial=wanted is not None)

    def _give(self, content: bytes, fault: str, *, partial: bool) -> None:
        if fault == "other bytes" and content:
            place = self.server.draw.randrange(len(content))
            content = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        if fault == "short":
            content = content[: len(content) // 2]
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(content) + 9 * (fault == "cut")))
        self.end_headers()
        if fault == "slow":
            for start in range(0, len(content), 1 + len(content) // 5):
                self.wfile.write(content[start : start + 1 + len(content) // 5])
                time.sleep(0.02)
        else:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> int:
    """Train from a store with each fault."""
    asked = options(__doc__)
    trials = Trials()
    if importlib.util.find_spec("aiohttp") is None:
        trials.row("stores", "skipped: aiohttp is not installed", ok=True)
        return trials.exit_code()
    torch.set_num_threads(1)
    store.PATIENCE, store.PAUSES = 2.0, (0.1, 0.2, 0.4)
    with workplace() as place:
        log, files, packed = place / "log", layouts().crema_d(place / "files"), place / "packed"
        settings = ["data.size=16", "encoders.audio.name=small-cnn", "encoders.video.name=small-cnn", "batch_size=8"]
        settings += ["feature_dim=8", "method.warmup=1", "splits.calibration=12", "leave_out=false"]
        settings += ["compute.workers=0"]
        words = ["train", "-q", "--recipe", "crema-d", "--epochs", "2", "--mode", "ours"]
        words += [word for one in settings for word in ("--set", one)]
        done(["data", "prepare", "crema-d", "--root", files, "--workers", 0, "--shards", packed], log)
        done([*words, "--root", files, "--out", place / "whole"], log)
        server = Server(packed, asked.seed)
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
