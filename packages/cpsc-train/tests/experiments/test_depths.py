"""Depths at which features are extracted."""

from __future__ import annotations

import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.experiments.features import Deep, named_depths
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.models.encoders.transformer import TransformerConfig

pytest.importorskip("transformers", reason="text is read by transformers")
TEXT = Modality(kind="text", shape=(6,), vocabulary=20)
LAYERS = [f"backbone.encoder.layer.{place}" for place in range(8)]


@pytest.fixture(scope="module")
def encoder():
    return TransformerConfig(layers=8, width=8, attention_heads=2).build(TEXT, 4).eval()


@pytest.mark.parametrize(("count", "names"), [(1, []), (2, LAYERS[1:2]), (3, LAYERS[1:3])])
def test_a_number_of_depths_is_spread_over_the_encoder(encoder, count, names):
    """At the fractions j / (2 K) of its layers."""
    tokens = torch.tensor([[3, 4, 5, 0, 0, 0], [3, 4, 5, 6, 7, 8]])
    spread, named = Deep("text", encoder, count), Deep("text", encoder, names)
    assert list(spread.names) == names
    values = spread(tokens)
    assert torch.equal(values, named(tokens))
    assert spread.widths == (8,) * count
    assert torch.equal(values[:, -8:], encoder.pooled(tokens))


def test_names_replace_the_number():
    assert named_depths(["a:x", "3"], ["a", "b"]) == {"a": ("x",), "b": 3}
    assert named_depths([], ["a", "b"]) == {"a": 1, "b": 1}
    for text, said in (("a", "must be a number, or names"), ("a:x,", "must be a number"), ("0", "must be a number")):
        with pytest.raises(UserError, match=said):
            named_depths([text], ["a"])
    with pytest.raises(UserError, match=r"--depths: .*'c'"):
        named_depths(["c:x"], ["a", "b"])


def test_encoders_without_pooled_features_and_unknown_names_are_refused(encoder):
    with pytest.raises(UserError, match=r"encoders\.v: has no pooled features to extract"):
        Deep("v", MLPConfig().build(Modality(kind="vector", shape=(3,)), 4))
    with pytest.raises(UserError, match=r"--depths text: names must be .*'backbone\.embedings': did you mean"):
        Deep("text", encoder, ["backbone.embedings"])
