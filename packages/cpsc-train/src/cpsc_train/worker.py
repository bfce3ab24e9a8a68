"""Entry point of a process that loads the libraries once, and forks a child for each command of ``cpsc`` that it gets.

Loading the libraries takes longer than a short run. A forked child starts with them and with nothing of an earlier run,
so its results are those of a separate process. This process itself computes nothing, and has no threads.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

LOADED = (
    "cpsc_train.cli",
    "cpsc_train.experiments",
    "cpsc_train.recipes",
    "cpsc_train.reporting.console",
    "cpsc_train.training.run",
    "scipy.stats",
    "torch.optim",
)
"""Modules that a run imports."""
NEWLINE = b"\n"


class Server:
    """Reads commands from standard input, one JSON line each, and replies with exit codes, one line each.

    A command is ``{"arguments": [...], "log": PATH}``; its output is appended to the log. SIGTERM is passed to the
    command in progress, after which the server ends; SIGINT is left to that command. The end of the input ends both.
    """

    def __init__(self) -> None:
        self._child: int | None = None
        self._ending = False
        self._interrupt = signal.getsignal(signal.SIGINT)  # ignored in a background job, and then by runs too

    def serve(self) -> None:
        """Run commands until the input ends."""
        replies = os.dup(1)
        os.dup2(2, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminate)
        for name in LOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # so that children share the memory of what is loaded
        while not self._ending and (line := _line()):
            code = self._run(json.loads(line), replies)
            os.write(replies, b"%d\n" % code)

    def _run(self, command: dict[str, Any], replies: int) -> int:
        blocked = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        child = os.fork()
        if child == 0:
            os.close(replies)
            signal.signal(signal.SIGINT, self._interrupt)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            _exit_after(lambda: _command(command["arguments"], command["log"]))
        self._child = child
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        _, status = os.waitpid(child, 0)
        self._child = None
        return os.waitstatus_to_exitcode(status)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        if self._child is None:
            os._exit(128 + signal.SIGTERM)
        os.kill(self._child, signal.SIGTERM)


def _line() -> bytes:
    """Read a line of the input, and no more of it: a child watches the same input for its end."""
    line = b""
    while not line.endswith(NEWLINE):
        character = os.read(0, 1)
        if not character:
            return b""
        line += character
    return line


def _command(arguments: list[str], log: str) -> None:
    from cpsc_train import __main__, interrupts  # noqa: PLC0415

    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = [__main__.__file__, *arguments]
    os.environ[interrupts.STDIN_IS_PARENT] = "1"
    __main__.main()


def _exit_after(call: Callable[[], None]) -> None:
    """End this process after a call, with the code of its SystemExit, and without what the parent would do at exit."""
    code = 1
    try:
        call()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # printed as Python would
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


if __name__ == "__main__":
    Server().serve()
