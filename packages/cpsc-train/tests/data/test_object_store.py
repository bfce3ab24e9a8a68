"""Data sets packed into a bucket of a real S3 server (moto's, on this machine), and read while it fails."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time

import numpy as np
import pytest

server = pytest.importorskip("moto.server", reason="needs moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
serving = pytest.importorskip("werkzeug.serving")

from cpsc_train.data import preparation  # noqa: E402
from cpsc_train.data.storage import store  # noqa: E402
from cpsc_train.data.storage.files import read_bytes  # noqa: E402
from cpsc_train.data.storage.packed import INDEX, open_packed  # noqa: E402
from cpsc_train.errors import DataError, UserError  # noqa: E402
from crema_d import config, same  # noqa: E402

ADDRESS = "s3://bucket/packed"
STATUS = {
    "403": ("AccessDenied", "Forbidden"),
    "500": ("InternalError", "Internal Error"),
    "503": ("SlowDown", "Slow Down"),
}
pytestmark = pytest.mark.slow  # 24 s in all


class Server:
    """An S3 server; a `fraction` of the reads of tar files and the index fails.

    `fault`: a key of `STATUS`; ``reset`` of the connection; ``cut`` in the middle of the content; ``slow``, which is
    no failure; ``hang``.
    """

    def __init__(self):
        self.inject("")
        self._draw = np.random.default_rng(0)
        self._s3 = server.DomainDispatcherApplication(server.create_backend_app)
        self._server = serving.make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def inject(self, fault, fraction=1.0):
        self.fault, self.fraction, self.faults = fault, fraction, 0

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request, start):
        read = request["REQUEST_METHOD"] == "GET" and request["PATH_INFO"].endswith((".tar", INDEX))
        if not read or not self.fault or self._draw.random() >= self.fraction:
            return self._s3(request, start)
        self.faults += 1
        if self.fault in STATUS:
            code, message = STATUS[self.fault]
            start(f"{self.fault} {message}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
        if self.fault == "reset":  # without lingering, a closed socket is reset
            request["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request["werkzeug.socket"].shutdown(socket.SHUT_RD)
            return []
        if self.fault == "hang":
            time.sleep(1)
        content = b"".join(self._s3(request, start))
        return [content[: len(content) // 2]] if self.fault == "cut" else self._late(content)

    @staticmethod
    def _late(content):
        for start in range(0, len(content), 1 + len(content) // 5):
            time.sleep(0.01)
            yield content[start : start + 1 + len(content) // 5]


@pytest.fixture(scope="module")
def running():
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    running = Server()
    yield running
    running.close()


@pytest.fixture
def s3(running, monkeypatch):
    """The server, whose client and reader lose no time with pauses."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": running.address, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(store, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    s3fs.S3FileSystem.clear_instance_cache()
    running.inject("")
    yield running
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def files(layouts, tmp_path_factory):
    return config(layouts.crema_d(tmp_path_factory.mktemp("files")), split="official")


@pytest.fixture
def folder(s3, files):
    preparation.pack(files, ADDRESS)
    return open_packed(ADDRESS)


def test_a_data_set_in_a_bucket_is_read_as_the_files_are(s3, files):
    preparation.pack(files, ADDRESS)
    assert preparation.pack(files, ADDRESS) == 0
    same(files.open(), config(ADDRESS, split="official").open())


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut", "slow"])
def test_temporary_faults_change_nothing(s3, files, folder, fault):
    s3.inject(fault, 0.2)
    same(files.open(), config(ADDRESS, split="official").open())
    assert s3.faults > 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("403", r"Forbidden\)$"),
        ("500", r"Internal Error, tried 4 times\)$"),
        ("503", r"Slow Down, tried 4 times\)$"),
        ("reset", r".+, tried 4 times\)$"),
        ("cut", r".*not completed.*, tried 4 times\)$"),
        ("hang", r"no complete answer in time, tried 4 times\)$"),
    ],
)
def test_permanent_faults_are_one_sentence(s3, folder, fault, message):
    path = next(name for name in folder.store.index.paths if name.endswith(".wav"))
    s3.inject(fault)
    with pytest.raises(DataError, match=rf"^{ADDRESS}/{path}: cannot be read \(.*{message}"):
        read_bytes(folder / path)
    s3.inject("")
    assert read_bytes(folder / path)


@pytest.mark.parametrize("fault", ["403", "500", "reset", "cut"])
def test_a_command_ends_with_one_sentence(s3, folder, cpsc, tmp_path, fault):
    s3.inject(fault)
    ended = cpsc("train", "-q", "--recipe", "crema-d", "--root", ADDRESS, "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("cpsc: error: the index of packed files cannot be read (")
    assert ended.err.count("\n") == 1


def test_without_a_bucket_or_a_key(s3, monkeypatch):
    with pytest.raises(UserError, match=r"^s3://none/there/index\.\w+: no such file: pack the data set"):
        open_packed("s3://none/there")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"cannot be read \(.*[Cc]redentials"):
        open_packed(ADDRESS)
