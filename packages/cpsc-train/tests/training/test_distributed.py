"""Exchange of results between processes."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import nn

from cpsc_train.errors import UserError
from cpsc_train.training import distributed
from cpsc_train.training.distributed import Process


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_shares_are_put_back_in_order(job, total):
    rows = np.arange(total)
    entries = torch.arange(2.0 * total).reshape(total, 2) - 1

    def work(process):
        mine = entries[torch.from_numpy(process.share(rows))]
        more = torch.cat([mine, torch.full((3, 2), 99.0)])  # entries after those of the share
        alone = [process.gather_to(rank, more, total) for rank in range(process.world)]
        return process.gather(mine, total), process.gather(more, total), alone

    for rank, (exact, longer, alone) in enumerate(job.run(work)):
        assert torch.equal(exact, entries)
        assert torch.equal(longer, entries)
        assert torch.equal(alone.pop(rank), entries)
        assert set(alone) == {None}


@pytest.mark.parametrize("first", range(7))
def test_shares_of_later_rows_are_put_back_in_order(job, first):
    entries = torch.arange(7.0)

    def work(process):
        places = process.own(first, 7)
        mine = entries[process.rank :: process.world]
        assert all(mine[place] >= first for place in places)
        return process.gather(mine[places.start : places.stop], 7 - first, first)

    for gathered in job.run(work):
        assert torch.equal(gathered, entries[first:])


def test_sums_and_objects_of_all_processes(job):
    def work(process):
        mine = torch.tensor([1.0, process.rank])
        total = process.sum(mine)
        return total.tolist(), mine.tolist(), process.gather_objects({"rank": process.rank})

    ranks = range(job.world)
    for rank, (total, mine, objects) in enumerate(job.run(work)):
        assert total == [job.world, sum(ranks)]
        assert mine == [1.0, rank]
        assert objects == [{"rank": one} for one in ranks]


def test_buffers_become_those_of_the_first(job):
    def work(process):
        module = nn.BatchNorm1d(2)
        module.running_mean.fill_(process.rank + 1)
        module.weight.data.fill_(process.rank)
        process.same_buffers(module)
        return module.running_mean.tolist(), module.weight.tolist()

    assert job.run(work) == [([1.0, 1.0], [float(rank)] * 2) for rank in range(job.world)]


def test_all_processes_wait(job):
    job.run(lambda process: process.wait())
    assert job.waits == job.world


def test_one_process_communicates_with_none(monkeypatch):
    monkeypatch.setattr(distributed, "distributed", None)
    alone, mine = Process(), torch.arange(4.0)
    assert (alone.rank, alone.world, alone.first) == (0, 1, True)
    assert not Process(1, 2).first
    assert alone.gather(mine, 3).tolist() == alone.gather_to(0, mine, 3).tolist() == [0.0, 1.0, 2.0]
    assert alone.sum(mine) is mine
    assert alone.gather_objects("a") == ["a"]
    alone.same_buffers(nn.BatchNorm1d(2))
    alone.wait()


def test_without_a_job_this_process_is_alone():
    assert distributed.current() == Process()
    with distributed.joined("cpu") as process:
        assert process == Process()
    assert not distributed.lost_another(RuntimeError("gloo"))


def test_a_job_is_joined_and_left(monkeypatch, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        assert distributed.current() == Process(0, 1)
        with distributed.joined("cpu") as process:  # already, and left by who joined it
            assert process == Process(0, 1)
        assert torch.distributed.is_initialized()
        assert distributed.lost_another(RuntimeError("[gloo/transport] Connection closed by peer"))
        assert distributed.lost_another(torch.distributed.DistNetworkError("reset"))
        assert not distributed.lost_another(RuntimeError("out of memory"))
    finally:
        torch.distributed.destroy_process_group()


def test_an_error_of_one_process_is_told_apart_from_that_of_all(monkeypatch):
    store = torch.distributed.HashStore()
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(distributed, "TOGETHER", timedelta(milliseconds=20))
    assert [distributed._fails_alone(Process(rank, 3)) for rank in (2, 0, 1)] == [True, False, False]


@pytest.fixture
def launched(monkeypatch):
    """The environment of one of two processes."""
    for name, value in {
        "WORLD_SIZE": 2,
        "RANK": 1,
        "LOCAL_RANK": 1,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("device", "gpu", "backend"), [("cpu", True, "gloo"), ("auto", True, "nccl"), ("auto", False, "gloo")]
)
def test_processes_of_a_launcher_join_and_leave(launched, monkeypatch, device, gpu, backend):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(distributed, "own_gpu", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *how, **more: calls.append((how, more)))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append("left"))
    with pytest.raises(ZeroDivisionError), distributed.joined(device):
        raise ZeroDivisionError
    chosen = [1] if backend == "nccl" else []
    assert calls == [*chosen, ((backend,), {"timeout": timedelta(minutes=10)}), "left"]


def test_processes_that_cannot_connect_get_an_error(launched, monkeypatch):
    def refuse(*_how, **_more):
        raise RuntimeError("connection refused")

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    with (
        pytest.raises(UserError, match=r"the 2 processes cannot connect: .*connection refused"),
        distributed.joined("cpu"),
    ):
        pass
