"""How often a store is asked, how long it is waited for, and which of its errors are final."""

import pytest
from fsspec.asyn import AsyncFileSystem

from cpsc_train.data.storage import store
from cpsc_train.data.storage.store import StoreReader, open_store
from cpsc_train.errors import UserError


class Asked:
    """A store of one file that is not asynchronous, which fails as often as told."""

    def __init__(self, *failures):
        self.failures, self.calls = list(failures), []

    def cat_file(self, path, start=None, end=None):
        self.calls.append((path, start, end))
        if self.failures:
            raise self.failures.pop(0)
        return memoryview(b"0123456789"[start:end])


@pytest.fixture
def slept(monkeypatch):
    pauses = []
    monkeypatch.setattr(store.time, "sleep", pauses.append)
    return pauses


def reader(system, root="memory://place"):
    made = StoreReader(root)
    made._system = system
    return made


def test_four_attempts_with_longer_and_longer_pauses(slept):
    system = Asked(*[OSError(f"fault {n}") for n in range(1, 6)])
    made = reader(system)
    with pytest.raises(OSError, match=r"^memory://place/a: fault 4, tried 4 times$") as found:
        made.read("a", bytes)
    assert str(found.value.__cause__) == "fault 4"
    assert slept == [1.0, 2.0, 4.0]
    with pytest.raises(OSError, match=r"^memory://place/a: fault 5$"):
        made.read("a", bytes)
    assert slept == [1.0, 2.0, 4.0]
    assert made.read("a", bytes) == b"0123456789"
    system.failures = [OSError("again")]
    assert made.read("a", bytes) == b"0123456789"  # it works again, so it is asked again
    assert slept == [1.0, 2.0, 4.0, 1.0]


def test_a_range_is_asked_for(slept):
    system = Asked()
    assert reader(system).read("a", bytes, 2, 3) == b"234"
    assert type(reader(system).read("a", lambda answer: answer)) is bytes
    reader(system).read("a", bytes, start=4)
    reader(system).read("a", bytes, size=4)
    ranges = [(start, end) for _, start, end in system.calls]
    assert ranges == [(2, 5), (None, None), (4, None), (None, None)]
    assert {path for path, _, _ in system.calls} == {"/place/a"}
    assert slept == []


@pytest.mark.parametrize(
    "error", [FileNotFoundError("a"), PermissionError("a"), NotImplementedError("a"), UserError("a")]
)
def test_a_final_error_is_passed_on_at_once(slept, error):
    system = Asked(error)
    with pytest.raises(type(error)) as found:
        reader(system).read("a", bytes)
    assert found.value is error
    assert len(system.calls) == 1


def test_want_of_memory_is_no_fault_of_the_store(slept):
    system = Asked(MemoryError())
    with pytest.raises(MemoryError):
        reader(system).read("a", bytes)
    assert len(system.calls) == 1


def test_a_wrong_answer_is_asked_for_again(slept):
    answers = iter([ValueError("too short"), None])

    def accept(content):
        if (error := next(answers)) is not None:
            raise error
        return len(content)

    assert reader(Asked()).read("a", accept) == 10
    assert slept == [1.0]


def test_a_disk_is_read_once(slept, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    made = StoreReader(str(tmp_path))
    assert made.read("a", bytes) == b"x"
    made._system = Asked(OSError("broken"))
    with pytest.raises(OSError, match=r"/a: broken$"):
        made.read("a", bytes)
    assert slept == []


class Waiting(AsyncFileSystem):
    cachable = False

    async def _cat_file(self, path, start=None, end=None):
        return b"late"


def test_a_larger_answer_may_take_longer(slept, monkeypatch):
    patience = []

    def sync(loop, _read, path, *, start, end, timeout):
        assert loop is made._system.loop
        patience.append((path, start, end, timeout))
        raise TimeoutError

    monkeypatch.setattr(store, "sync", sync)
    made = reader(Waiting())
    made._failing = True
    for size in (None, 1_000_000):
        with pytest.raises(OSError, match=r"/a: no complete answer in time$"):
            made.read("a", bytes, 5, size)
    assert patience == [("/place/a", 5, None, 30.0), ("/place/a", 5, 1_000_005, 40.0)]


def test_an_address_ends_without_a_slash(monkeypatch):
    assert open_store("memory://place/")[1] == "/place"
    with monkeypatch.context() as patched:  # as some stores answer
        patched.setattr(store, "url_to_fs", lambda root: (None, root))
        assert open_store("other://place/") == (None, "other://place")
    with pytest.raises(UserError, match=r"^ftpp://x: cannot be opened \(.+\)$"):
        open_store("ftpp://x")
