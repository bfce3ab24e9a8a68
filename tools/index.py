"""A package index on this machine, for packages that are not published yet."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYPI = "https://pypi.org/simple/"
PATIENCE = 30.0
"""Seconds in which the server must answer."""


@contextmanager
def serving(dist: Path) -> Iterator[str]:
    """Serve the files of a folder, and redirect to PyPI for all other packages; give the address of the index.

    Raises
    ------
    RuntimeError
        If the server does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--interface", "127.0.0.1", "--port", str(port), "--fallback-url", PYPI]
    command = [sys.executable, "-m", "pypiserver", "run", *options, str(dist)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603
    address = f"http://127.0.0.1:{port}/simple/"
    try:
        _wait(address, server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{address}: the index must answer within {PATIENCE:g} s, got nothing")
