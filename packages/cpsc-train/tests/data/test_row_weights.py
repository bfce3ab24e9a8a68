"""Weights of training rows in a file: what is written is read back, and every fault is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc_train.data.row_weights import read_row_weights, write_row_weights
from cpsc_train.errors import UserError

IDS = ("a", "=b", "c")


@given(st.lists(st.tuples(*[st.floats(0.01, 10)] * 2), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back_up_to_scale_and_digits(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("weights") / "rows.csv"
    weights = dict(zip(("x", "y"), np.array(values).T, strict=True))
    write_row_weights(path, IDS, ["p", "q", "p"], weights)
    found = read_row_weights(path, IDS[::-1], ("y", "x"), optional=("fused",))
    assert list(found) == ["y", "x", "fused"]
    for head, of in weights.items():
        assert found[head] == pytest.approx((of / of.mean())[::-1], rel=2e-3)
        assert found[head].mean() == pytest.approx(1)
    assert found["fused"].tolist() == [1, 1, 1]


def test_the_mean_is_over_the_training_rows_alone(tmp_path):
    path = tmp_path / "w.tsv"
    path.write_text("weight_x\tid\na\tother\n1\ta\n3\tb\n", encoding="utf-8")
    assert read_row_weights(path, ["b", "a"], ["x"])["x"].tolist() == [1.5, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,weight_x\na,1\n", r"must have a column 'id', got 'name', 'weight_x'"),
        ("id,x\na,1\n", r"must have a column 'weight_x', got 'id', 'x'"),
        ("id,weight_x\na,1\nother,1\n", r"has no line for 2 of 3 training rows, such as 'b': list every"),
        ("id,weight_x\na,1\nb,1\nc,1\na,2\n", r"lists id 'a' twice"),
        ("id,weight_x\na,1\nb,-1\nc,1\n", r"id 'b', column 'weight_x' must be a finite number of at least 0, got '-1'"),
        ("id,weight_x\na,1\nb,1\nc,nan\n", r"id 'c', column 'weight_x' must be a finite number .* got 'nan'"),
        ("id,weight_x\na,1\nb,\nc,1\n", r"id 'b', .* got ''"),
        ("id,weight_x\na,0\nb,0\nc,0\n", r"column 'weight_x' must be positive in some training row, got zeros alone"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    path = tmp_path / "w.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_row_weights(path, ["a", "b", "c"], ["x"])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"weights of rows must be a \.csv or \.tsv file"):
        read_row_weights(tmp_path / "w.json", ["a"], ["x"])
    with pytest.raises(UserError, match=r"w\.csv"):
        read_row_weights(tmp_path / "w.csv", ["a"], ["x"])
