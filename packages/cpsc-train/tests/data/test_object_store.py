"""Data sets packed into a bucket of a real S3 server (moto's, on this machine), and read while it fails."""

from __future__ import annotations

import pytest

server = pytest.importorskip("moto.server", reason="needs moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
faulty_server = pytest.importorskip("faulty_server", reason="needs werkzeug")

from cpsc_train.data import preparation  # noqa: E402
from cpsc_train.data.storage import store  # noqa: E402
from cpsc_train.data.storage.files import read_bytes  # noqa: E402
from cpsc_train.data.storage.packed import open_packed  # noqa: E402
from cpsc_train.errors import DataError, UserError  # noqa: E402
from crema_d import config, same  # noqa: E402

ADDRESS = "s3://bucket/packed"
pytestmark = pytest.mark.slow  # 24 s in all


@pytest.fixture(scope="module")
def running():
    running = faulty_server.Server(server.DomainDispatcherApplication(server.create_backend_app))
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
