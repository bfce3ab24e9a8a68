"""What is remembered of every training row costs nothing where a row is not in the batch."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpsc_train.methods import MethodConfig
from cpsc_train.methods.qmf import Smallest
from cpsc_train.methods.rows import RowTable
from cpsc_train.models import FUSED

MODALITIES = ("a", "b")
MANY, ROWS = 50_000, 12
BUILDS = {name: (name, {}) for name in sorted(MethodConfig.members)}
BUILDS |= {
    f"cpsc {trust}": ("cpsc", {"trust": trust, "parts": "both"}) for trust in ("input", "label", "reliability", "all")
}


class LargestMade(TorchDispatchMode):
    """The most elements of any tensor that an operation makes; one that it changes in place is not made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        fresh = [t.numel() for t in made if t.untyped_storage().data_ptr() not in known]
        self.elements = max([self.elements, *fresh])
        return out


@pytest.mark.parametrize("name", BUILDS)
def test_a_step_does_not_look_at_all_rows(name, model, batch, step, alone):
    named, options = BUILDS[name]
    method = MethodConfig.named(named)(**options).build(model, MODALITIES)
    method.on_fit_start(MANY)
    method.on_epoch_start(0, alone)
    rows = torch.arange(ROWS) * (MANY // ROWS)
    step(method, model, batch, rows=rows)
    with LargestMade() as largest:
        step(method, model, batch, rows=rows)
    assert 0 < largest.elements < MANY


@pytest.mark.parametrize("columns", [1, 2, 63, 64, 65, 4096, 4097, 10_000])
def test_the_smallest_of_a_table_that_grows(columns):
    generator = torch.Generator().manual_seed(columns)
    table = torch.zeros(3, columns)
    smallest = Smallest(table)
    for _ in range(40):
        rows = torch.randperm(columns, generator=generator)[: 1 + columns // 3]
        table[:, rows] += torch.rand(3, len(rows), generator=generator)
        smallest.update(rows)
        assert torch.equal(smallest.values, table.amin(1))


def test_qmf_ranks_by_the_extremes_of_all_rows(model, batch, step, alone):
    """Also of a history that was saved, and after rows that are not in the batch have grown."""
    method = MethodConfig.named("qmf")().build(model, MODALITIES)
    method.on_fit_start(200)
    for first in range(0, 180, ROWS):
        step(method, model, batch, rows=torch.arange(first, first + ROWS))
    history = method.history.values.clone()
    assert torch.equal(method._smallest.values, history.amin(1))
    assert torch.equal(method._largest, history.amax(1))
    again = MethodConfig.named("qmf")().build(model, MODALITIES)
    again.on_fit_start(200)
    again.load_state_dict(method.state_dict())
    again.on_epoch_start(1, alone)
    first, second = (step(one, model, batch, rows=torch.arange(190, 190 - ROWS, -1)).terms for one in (method, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_average_of_a_method_holds_the_weights_of_the_rows_as_they_are(model):
    method = MethodConfig.named("cpsc")(parts="both", trust="label").build(model, MODALITIES)
    method.on_fit_start(4)
    average = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    average.update_parameters(method)
    method.trust.of_rows.values.copy_(torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    average.update_parameters(method)
    assert average.module.row_weights()[FUSED].tolist() == [0.0, 0.0, 2.0, 2.0]


def test_a_table_of_another_number_of_rows_is_refused():
    table = RowTable(torch.zeros(2, 5))
    assert deepcopy(table) is table
    with pytest.raises(ValueError, match=r"must have shape \(2, 5\), got \(2, 4\)"):
        table.load_state_dict(RowTable(torch.zeros(2, 4)).state_dict())
    assert table.to(torch.float64).values.dtype == torch.float64
