"""An HTTP server in a thread, a fraction of whose answers have a fault."""

from __future__ import annotations

import logging
import random
import socket
import struct
import threading
import time

from werkzeug.serving import make_server

STATUS = {
    "403": ("AccessDenied", "Forbidden"),
    "500": ("InternalError", "Internal Error"),
    "503": ("SlowDown", "Slow Down"),
}
FILES = (".tar", ".npz")
"""Endings of the files whose reads fail: shards and their index."""


class Server:
    """Serves a WSGI application; a `fraction` of the reads of `FILES` fails.

    `fault`: a key of `STATUS`; ``drop`` or ``reset`` of the connection; ``cut`` in the middle of the content;
    ``short``, which is half of it as if it were all; ``other bytes``; ``hang``; ``loop`` of redirects; or ``slow`` and
    ``redirect``, which are no failures.
    """

    def __init__(self, application, *, pause=1.0, seed=0):
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.inject("")
        self._application, self._pause, self._draw = application, pause, random.Random(seed)  # noqa: S311
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def inject(self, fault, fraction=1.0):
        self.fault, self.fraction, self.faults = fault, fraction, 0

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request, start):
        read = request["REQUEST_METHOD"] == "GET" and request["PATH_INFO"].endswith(FILES)
        fault = self.fault if read and request["QUERY_STRING"] != "again" else ""
        if not fault or self._draw.random() >= self.fraction:
            return self._application(request, start)
        self.faults += 1
        if fault in STATUS:
            code, message = STATUS[fault]
            start(f"{fault} {message}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
        if fault in {"redirect", "loop"}:
            start("302 Found", [("Location", request["PATH_INFO"] + "?again" * (fault == "redirect"))])
            return []
        if fault in {"drop", "reset"}:
            return self._end(request["werkzeug.socket"], linger=fault == "drop")
        if fault == "hang":
            time.sleep(self._pause)
        return self._content(fault, request, start)

    @staticmethod
    def _end(connection, *, linger):
        if not linger:  # a closed socket is then reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR if linger else socket.SHUT_RD)
        return []

    def _content(self, fault, request, start):
        answers = []
        content = bytearray(b"".join(self._application(request, lambda *answer: answers.append(answer))))
        status, headers = answers[-1][:2]
        if fault == "other bytes" and content:
            content[self._draw.randrange(len(content))] ^= 0x10
        if fault in {"cut", "short"}:
            content = content[: len(content) // 2]
        if fault == "short":
            headers = [one for one in headers if one[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(content))))
        start(status, headers)
        return _late(bytes(content)) if fault in {"slow", "hang"} else [bytes(content)]


def _late(content):
    for start in range(0, len(content), 1 + len(content) // 5):
        time.sleep(0.01)
        yield content[start : start + 1 + len(content) // 5]
