"""Results of worker processes: in order, and an error that names what to do when one dies."""

import os

import pytest

from cpsc_train.data.prefetch import Prefetched, workers_explained
from cpsc_train.errors import UserError
from cpsc_train.interrupts import Terminated


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_drawn_when_they_are_needed(workers):
    drawn = []
    found = Prefetched(str, (drawn.append(k) or k for k in range(100)), workers=workers)
    for k, one in zip(range(3), found, strict=False):
        assert one == str(k)
    assert len(drawn) <= 4 + 2 * workers


def die(_item):
    os._exit(1)


def test_a_worker_that_dies():
    with pytest.raises(UserError, match="if memory ran out, lower --workers"), workers_explained("--workers"):
        list(Prefetched(die, [0], workers=1))


def test_workers_that_a_scheduler_ends_are_an_interrupt():
    with pytest.raises(Terminated), workers_explained("--workers"):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")


def test_a_function_that_cannot_be_sent_to_workers():
    with pytest.raises(UserError, match=r"cannot be sent to worker processes .*set the number of workers to 0"):
        list(Prefetched(lambda item: item, range(3), workers=1, decodes=True))


def test_other_errors_of_a_start_are_kept():
    class Broken:
        def __call__(self, item):
            return item

        def __reduce__(self):
            raise TypeError("its own fault")

    with pytest.raises(TypeError, match="its own fault"):
        list(Prefetched(Broken(), range(3), workers=1, decodes=True))
