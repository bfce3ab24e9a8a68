"""Check the study of reliability: members train as the product does, and reliability is out of sample."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.methods.joint import joint_losses
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "studies"))

import reliability
from _members import Members

N, CLASSES = 24, 3


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(N, 5, generator=generator) for m in ("a", "b")}
    return inputs, torch.arange(N) % CLASSES


def test_a_member_is_a_model_trained_with_its_weights(rows):
    inputs, labels = rows
    weights = torch.rand(2, 3, N, generator=torch.Generator().manual_seed(1))
    members = Members(inputs, labels, weights, classes=CLASSES, hidden=6, seed=3)
    members.fit(rows, epochs=1, batch_size=N)
    torch.manual_seed(3)
    vectors = dict.fromkeys(inputs, Modality(kind="vector", shape=(5,)))
    model = MultimodalClassifier(vectors, dict.fromkeys(inputs, MLPConfig(hidden=6)), dim=32, classes=CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    of = dict(zip(("a", "b", FUSED), weights[1], strict=True))
    sum(joint_losses(model, model.encode(inputs), labels, unimodal=True, weights=of).terms.values()).backward()
    optimizer.step()
    with torch.no_grad():
        expected = torch.stack(list(model(inputs).values()))
    torch.testing.assert_close(members.logits(inputs)[1], expected, rtol=1e-4, atol=1e-5)


def test_the_best_epoch_of_each_member_is_restored(rows):
    inputs, labels = rows
    members = Members(inputs, labels, torch.ones(2, 3, N), classes=CLASSES, hidden=32, seed=0)
    chosen = members.fit(rows, epochs=40, batch_size=8)
    accuracy = (members.logits(inputs)[:, -1].argmax(-1) == labels).float().mean(-1)
    assert torch.equal(chosen, chosen[:1].expand(2))
    assert accuracy.min() > 0.9


def test_p_values_of_calibration_like_rows_are_uniform_and_the_label_decides():
    """Rows with the wrong label have smaller p-values; those of rows like the calibration rows are uniform."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, 3000)
    logits = generator.normal(size=(3, 3000, CLASSES)) + 2 * np.eye(CLASSES)[labels]
    rated = reliability.Rated(("a", "b"), logits[:, :1000], labels[:1000])
    right = rated.reliability(logits[:, 1000:], labels[1000:])
    wrong = rated.reliability(logits[:, 1000:], (labels[1000:] + 1) % CLASSES)
    for kind in ("label p", "others p", "fused p"):
        assert np.quantile(right[kind]["a"], [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)
        values = np.concatenate([right[kind]["a"], wrong[kind]["a"]])
        assert reliability.auroc(values, np.arange(4000) < 2000) > 0.8
    assert np.array_equal(right["ρ"]["a"], wrong["ρ"]["a"])  # it does not depend on the given label
    assert np.array_equal(right["others p"]["a"], right["label p"]["b"])  # of two modalities


def test_the_auroc_by_hand():
    assert reliability.auroc(np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])) == 0.625
    assert np.isnan(reliability.auroc(np.ones(2), np.ones(2, dtype=bool)))
