"""Threads in place of the processes of a job, each with its rank."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cpsc_train.training import distributed
from cpsc_train.training.distributed import Process


class Job:
    """Replacement of ``torch.distributed``: an exchange returns once all threads have called it."""

    def __init__(self, world):
        self.world = world
        self.values = [None] * world
        self.here = threading.Barrier(world, timeout=20)
        self.rank = threading.local()
        self.waits = 0
        self.sent = []
        """Sizes of the tensors that were gathered, of one process each."""

    def run(self, work):
        def of(rank):
            self.rank.value = rank
            return work(Process(rank, self.world))

        with ThreadPoolExecutor(self.world) as pool:
            return list(pool.map(of, range(self.world)))

    def exchange(self, mine):
        self.values[self.rank.value] = mine
        self.here.wait()
        values = list(self.values)
        self.here.wait()
        return values

    def gather(self, mine, shares, dst):
        self.sent.append(mine.numel())
        values = self.exchange(mine.clone())
        assert (shares is None) == (self.rank.value != dst)
        for share, value in zip(shares or [], values, strict=False):
            share.copy_(value)

    def all_gather(self, shares, mine):
        self.sent.append(mine.numel())
        for share, value in zip(shares, self.exchange(mine.clone()), strict=True):
            share.copy_(value)

    def all_reduce(self, tensor):
        tensor.copy_(sum(self.exchange(tensor.clone())))

    def all_gather_object(self, values, mine):
        values[:] = self.exchange(mine)

    def broadcast(self, tensor, source):
        tensor.copy_(self.exchange(tensor.clone())[source])

    def barrier(self):
        self.waits += 1
        self.here.wait()


@pytest.fixture(params=[2, 3])
def job(request, monkeypatch):
    threads = Job(request.param)
    monkeypatch.setattr(distributed, "distributed", threads)
    return threads
