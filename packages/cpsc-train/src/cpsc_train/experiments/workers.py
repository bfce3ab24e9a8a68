"""Processes that run commands of ``cpsc`` one after another, without loading the libraries each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cpsc_train.data.processes import cores
from cpsc_train.interrupts import call, raise_pending, registered

FORKS = sys.platform == "linux"
"""Whether commands are forked from a process that is ready; elsewhere each starts a process of its own."""


class Workers:
    """At most `jobs` processes, each with its part of the cores; started when needed, and ended with the block.

    `run` may be called by several threads. A command that crashes ends alone.

    Parameters
    ----------
    jobs
        Number of commands that run at a time.
    """

    def __init__(self, jobs: int = 1) -> None:
        threads = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
        self._environment = {**os.environ, **threads}
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._idle:
            worker.close()
        self._idle.clear()

    def run(self, arguments: Sequence[str], log: Path) -> int:
        """Run a command of ``cpsc``, append its output to `log`, and return its exit code.

        Raises
        ------
        KeyboardInterrupt
            If this process has been interrupted already.
        """
        if not FORKS:
            with log.open("ab") as output:
                command = [sys.executable, "-m", "cpsc_train", *arguments]
                return call(command, output=output, environment=self._environment)
        raise_pending()
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or _Worker(self._environment)
        code = worker.run(arguments, log)
        if worker.alive:
            with self._lock:
                self._idle.append(worker)
        return code


class _Worker:
    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "cpsc_train.worker"]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.alive = True

    def run(self, arguments: Sequence[str], log: Path) -> int:
        request = json.dumps({"arguments": list(arguments), "log": str(log)}) + "\n"
        with registered(self._process):
            commands, replies = _pipes(self._process)
            with suppress(BrokenPipeError):
                commands.write(request.encode())
                commands.flush()
            reply = replies.readline()
            if reply:
                return int(reply)
            self.close()  # it has ended, and the command with it
            return self._process.returncode

    def close(self) -> None:
        self.alive = False
        for pipe in _pipes(self._process):
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("a worker must have pipes")
    return process.stdin, process.stdout
