import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.data import InOrder, Shuffled

sizes = st.integers(1, 40)


@given(rows=sizes, batch_size=sizes)
def test_in_order_is_every_row_once(rows, batch_size):
    draws = [draw.positions for draw in InOrder(rows, batch_size)]
    assert np.concatenate(draws).tolist() == list(range(rows))
    assert len(draws) == len(InOrder(rows, batch_size))
    assert all(len(draw) == batch_size for draw in draws[:-1])


@given(rows=sizes, batch_size=sizes, accumulate=st.integers(1, 3), world=st.integers(1, 4), epoch=st.integers(0, 2))
def test_together_the_processes_meet_every_row_once(rows, batch_size, accumulate, world, epoch):
    met, counted = [], np.zeros(rows)
    orders = [
        Shuffled(rows, batch_size=batch_size, accumulate=accumulate, seed=3, rank=rank, world=world)
        for rank in range(world)
    ]
    for order in orders:
        order.go_to(epoch=epoch, step=0)
        draws = list(order)
        assert len(draws) == len(order)
        weights = [weight for step in range(order.steps) for weight in order.weights(step)]
        assert len(weights) == len(draws)
        for draw, weight in zip(draws, weights, strict=True):
            if weight:
                met += draw.positions.tolist()
                counted[draw.positions] += weight / len(draw.positions) / world
    assert sorted(met) == list(range(rows))
    # each row counts 1 / (rows of its step), whichever process it is on
    group = batch_size * accumulate
    alone = rows > 1 and batch_size > 1 and rows % batch_size == 1  # goes into the batch before
    steps = [group] * ((rows - alone) // group) + ([rest] if (rest := (rows - alone) % group) else [])
    steps[-1] += alone
    np.testing.assert_allclose(np.sort(counted), np.sort([1 / size for size in steps for _ in range(size)]))


def test_a_pass_starts_with_the_first_epoch_and_names_its_randomness():
    order = Shuffled(7, batch_size=3, accumulate=1, seed=4)
    draws = list(order)
    order.go_to(epoch=0, step=0)
    assert [draw.positions.tolist() for draw in order] == [draw.positions.tolist() for draw in draws]
    assert [draw.seed for draw in draws] == [(4, 0), (4, 0)]
    order.go_to(epoch=2, step=1)
    assert [draw.seed for draw in order] == [(4, 2)]
    assert len(order) == len(list(order)) == 1
    assert [draw.seed for draw in InOrder(3, 2)] == [None, None]


def test_a_process_without_rows_is_given_one_that_counts_nothing():
    order = Shuffled(6, batch_size=3, accumulate=1, seed=0, rank=3, world=4)
    assert [len(draw.positions) for draw in order] == [1, 1]
    assert order.weights(0) == [0.0]


def test_one_row_is_a_batch_where_there_is_no_other():
    order = Shuffled(1, batch_size=4, accumulate=2, seed=0)
    assert order.steps == 1
    assert [draw.positions.tolist() for draw in order] == [[0]]
    assert order.weights(0) == [1.0]


@given(rows=st.integers(2, 80), batch_size=st.integers(2, 20), accumulate=st.integers(1, 3))
def test_no_row_is_a_batch_by_itself(rows, batch_size, accumulate):
    order = Shuffled(rows, batch_size=batch_size, accumulate=accumulate, seed=3)
    order.go_to(epoch=0, step=0)
    sizes = [len(draw.positions) for draw in order]
    assert min(sizes) > 1
    assert max(sizes) <= batch_size + 1


def test_a_pass_can_start_in_the_middle():
    order = Shuffled(23, batch_size=4, accumulate=2, seed=1)
    order.go_to(epoch=5, step=0)
    whole = [draw.positions.tolist() for draw in order]
    order.go_to(epoch=5, step=2)
    assert [draw.positions.tolist() for draw in order] == whole[4:]


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_is_another_order(change):
    def positions(seed=0, epoch=0):
        order = Shuffled(50, batch_size=50, accumulate=1, seed=seed)
        order.go_to(epoch=epoch, step=0)
        return next(iter(order)).positions.tolist()

    assert positions() == positions()
    assert positions(**change) != positions()
