"""Packed data sets, on a disk and in stores that fail: read as the files are."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.asyn import AsyncFileSystem

from cpsc_train.data import preparation
from cpsc_train.data.storage import packed
from cpsc_train.data.storage import store as store_of_files
from cpsc_train.data.storage.files import read_bytes
from cpsc_train.errors import DataError, UserError
from crema_d import config, same


def test_shards_are_read_as_the_files_are(crema_native, tmp_path, monkeypatch):
    monkeypatch.setattr("cpsc_train.data.preparation.packing.SAMPLES", 16)
    out = tmp_path / "packed"
    assert preparation.pack(config(crema_native), str(out), workers=2) > 0
    packed = config(out).open()
    same(config(crema_native).open(), packed)
    assert len(list(out.glob("samples-*.tar"))) == 4
    with tarfile.open(out / "samples-00000.tar") as tar:  # the convention of WebDataset: one key a sample
        names = tar.getnames()
        about = json.load(tar.extractfile(names[0]))
    assert names[0] == f"{about['id']}.json"
    assert [name.partition(".")[0] for name in names[:3]] == [about["id"]] * 3
    assert about["class"] == about["id"].split("_")[2]
    assert preparation.pack(config(crema_native), str(out)) == 0
    content = (out / "samples-00002.tar").read_bytes()
    (out / "samples-00001.tar").unlink()
    (out / "samples-00002.tar").write_bytes(content[:3000])
    assert preparation.pack(config(crema_native), str(out)) > len(content)
    assert (out / "samples-00002.tar").read_bytes() == content
    (out / "index.npz").rename(tmp_path / "index.npz")
    with pytest.raises(UserError, match="packed: the packing is not complete: repeat cpsc data prepare --shards"):
        config(out).open()
    assert preparation.pack(config(crema_native), str(out)) == 0
    assert (out / "index.npz").read_bytes() == (tmp_path / "index.npz").read_bytes()
    (tmp_path / "skip.tsv").write_text("1001_DFA_NEU_XX\tnot wanted\n")
    with pytest.raises(UserError, match="other samples are packed here"):
        preparation.pack(config(crema_native, skip=str(tmp_path / "skip.tsv")), str(out))
    with pytest.raises(UserError, match="is packed already"):
        preparation.pack(config(out), str(tmp_path / "again"))


def test_shards_in_an_object_store(layouts, tmp_path, monkeypatch):
    monkeypatch.setattr(store_of_files, "PAUSES", (0.0, 0.0))
    root = layouts.crema_d(tmp_path / "files")
    address = f"memory://{tmp_path.name}/packed"
    official = {"split": "official"}
    preparation.pack(config(root, **official), address)
    same(config(root, **official).open(), config(address, **official).open())
    store = fsspec.filesystem("memory")
    (shard,) = [
        name for name in store.ls(f"/{tmp_path.name}/packed", detail=False) if name.endswith("samples-00000.tar")
    ]
    store.pipe_file(shard, store.cat_file(shard)[:3000])
    with pytest.raises(
        UserError, match=r"memory://.*cannot be read \(.*samples-00000\.tar: is cut off, tried 3 times\)"
    ):
        config(address, **official).open().read("audio", np.arange(48))


class Unsteady(AsyncFileSystem):
    """A store that answers as told, and rightly when nothing is left to tell."""

    protocol = "unsteady"
    cachable = False
    root = ""
    answers: ClassVar[list[object]] = []
    asked = 0

    async def _cat_file(self, path, start=None, end=None, **_):
        Unsteady.asked += 1
        content = Path(self.root, path.rpartition("/")[2]).read_bytes()[start:end]
        answer = self.answers.pop(0) if self.answers else content
        if answer == "hang":
            await asyncio.sleep(60)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return {"short": content[:-1], "long": content + b"x", "other": bytes([content[0] ^ 1]) + content[1:]}[
                answer
            ]
        return content


@pytest.fixture
def unsteady(packed_once, monkeypatch):
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    monkeypatch.setattr(Unsteady, "root", str(packed_once))
    monkeypatch.setattr(Unsteady, "answers", [])
    monkeypatch.setattr(Unsteady, "asked", 0)
    monkeypatch.setattr(store_of_files, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(store_of_files, "PATIENCE", 0.05)
    return Unsteady


@pytest.fixture(scope="module")
def packed_once(layouts, tmp_path_factory):
    place = tmp_path_factory.mktemp("unsteady")
    preparation.pack(config(layouts.crema_d(place / "files"), split="official"), str(place / "packed"))
    return place / "packed"


FAULTS = [
    ("short", "is cut off"),
    ("long", "is on a server without range requests"),
    ("other", r"the [\d,]+ bytes from byte [\d,]+ on are not those that were packed"),
    (RuntimeError("500 Internal Server Error"), "500 Internal Server Error"),
    (ConnectionResetError("Connection lost"), "Connection lost"),
    ("hang", "no complete answer in time"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_a_store_that_fails_is_asked_again_and_then_named(unsteady, packed_once, fault, said):
    folder = packed.open_packed("unsteady://there")
    path = next(path for path in folder.store.index.paths if path.endswith(".wav"))
    file, right = folder / path, (packed.open_packed(str(packed_once)) / path).read_bytes()
    unsteady.answers += [fault, fault]
    assert file.read_bytes() == right
    unsteady.answers += [fault] * 4
    with pytest.raises(
        DataError, match=rf"^unsteady://there/{path}: cannot be read \(.*/samples-00000\.tar: {said}.* 3 "
    ):
        read_bytes(file)
    unsteady.asked = 0
    with pytest.raises(DataError, match=rf"{said}\)$"):  # a store that is down is not waited for at every file
        read_bytes(file)
    assert unsteady.asked == 1
    assert file.read_bytes() == right


@pytest.mark.parametrize("error", [FileNotFoundError("404"), PermissionError("403")])
def test_what_a_store_refuses_is_not_asked_for_again(unsteady, error):
    folder = packed.open_packed("unsteady://there")
    unsteady.answers += [error]
    asked = unsteady.asked
    with pytest.raises(DataError):
        read_bytes(folder / next(iter(folder.store.index.paths)))
    assert unsteady.asked == asked + 1


def test_an_index_is_asked_for_again(unsteady):
    unsteady.answers += ["short", "hang"]
    assert packed.open_packed("unsteady://there") is not None
    unsteady.answers += ["short"] * 3
    with pytest.raises(
        UserError, match=r"index of packed files cannot be read \(unsteady://there/index\.npz: .* 3 times"
    ):
        packed.open_packed("unsteady://there")


def test_packing_goes_on_after_a_kill_in_a_write(layouts, tmp_path):
    files, out = config(layouts.crema_d(tmp_path / "files"), split="official"), tmp_path / "packed"
    preparation.pack(files, str(out))
    complete = {path.name: path.read_bytes() for path in out.iterdir()}
    index = out / "samples-00000.npz"
    index.write_bytes(complete[index.name][:40])
    (out / "packing.json.partial").write_bytes(b"{")
    (out / "packing.json").unlink()
    assert preparation.pack(files, str(out)) > 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == complete


def test_packing_into_a_store_that_cannot_be_written(layouts, unsteady, tmp_path):
    with pytest.raises(UserError, match=r"^unsteady://new: cannot be written \("):
        preparation.pack(config(layouts.crema_d(tmp_path / "files"), split="official"), "unsteady://new")


def test_an_address_or_index_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"memory://none/index\.npz: no such file: pack the data set"):
        config("memory://none").open()
    with pytest.raises(UserError, match="ftpp://x: cannot be opened"):
        config("ftpp://x").open()
    (tmp_path / "index.npz").write_text("{}")
    with pytest.raises(UserError, match=r"index of packed files cannot be read \(.*index\.npz: .*zip"):
        config(tmp_path).open()


def test_shards_are_not_written_through_a_link(crema_native, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/samples-00000.tar").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="tar: is a link"):
        preparation.pack(config(crema_native), str(tmp_path / "shards"))
    assert (tmp_path / "secret").read_text() == "mine"
