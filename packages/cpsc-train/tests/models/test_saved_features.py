"""Encoder of saved features with several depths."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD

from cpsc_rsc import Taps
from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.by_kind import encoder_of
from cpsc_train.models.encoders.saved_features import SavedFeaturesConfig
from cpsc_train.models.encoders.scratch import MLPConfig

WIDTHS = (3, 4, 6)
DEEP = Modality(kind="vector", shape=(13,), depths=WIDTHS)
LAST = Modality(kind="vector", shape=(6,))


def trained(encoder: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Parameters after three steps."""
    optimizer = SGD(encoder.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        encoder(inputs).square().sum().backward()
        optimizer.step()
    return list(encoder.parameters())


def test_training_equals_that_of_an_mlp_on_the_last_depth():
    inputs = torch.randn(5, 13, generator=torch.Generator().manual_seed(0))
    outcomes = []
    for config, modality, x in ((SavedFeaturesConfig(), DEEP, inputs), (MLPConfig(), LAST, inputs[:, 7:])):
        torch.manual_seed(1)
        outcomes.append(trained(config.build(modality, 8), x))
    for ours, reference in zip(*outcomes, strict=True):
        assert torch.equal(ours, reference)


def test_taps_see_each_depth():
    encoder, inputs = SavedFeaturesConfig().build(DEEP, 8), torch.randn(5, 13)
    taps = Taps(encoder)
    features, depths = taps(encoder, inputs)
    assert taps.names == encoder.tap_names
    assert [tuple(depth.shape) for depth in depths] == [(5, width) for width in WIDTHS]
    assert torch.equal(torch.cat(depths, 1), inputs)
    assert torch.equal(features, encoder.last(inputs[:, 7:]))


def test_it_is_the_default_where_the_depths_are_known_and_refused_elsewhere():
    assert encoder_of(DEEP) == SavedFeaturesConfig()
    assert encoder_of(LAST) == MLPConfig()
    with pytest.raises(UserError, match=r"depths are known, got vector of 6: use mlp, or extract .* --depths"):
        SavedFeaturesConfig().build(LAST, 8)
