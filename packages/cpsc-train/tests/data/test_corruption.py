"""A bad source of data: what is hit, what is not, and that it is the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cpsc_train.data import CorruptionConfig, Noise
from cpsc_train.errors import UserError
from cpsc_train.training import RunConfig
from cpsc_train.training.setup import Setup

IDS = [f"s{i}" for i in range(20_000)]
LABELS = np.arange(20_000) % 10
PIX = Noise(modality="pix", kind="gaussian", severity=2.0, share=0.4)


def test_symmetric_labels_are_any_other_class_with_the_same_probability():
    wrong = CorruptionConfig(label_share=0.4).wrong(LABELS, IDS, 10)
    hit = wrong != LABELS
    assert hit.mean() == pytest.approx(0.4, abs=3.5 * np.sqrt(0.24 / len(IDS)))
    steps = np.bincount((wrong - LABELS)[hit] % 10, minlength=10)
    assert steps[0] == 0
    expected = hit.sum() / 9
    assert (((steps[1:] - expected) ** 2) / expected).sum() < 27.9  # chi-square of 8 degrees, p = .0005


def test_asymmetric_labels_are_the_next_class():
    wrong = CorruptionConfig(labels="asymmetric", label_share=0.3).wrong(LABELS, IDS, 10)
    hit = wrong != LABELS
    assert hit.mean() == pytest.approx(0.3, abs=3.5 * np.sqrt(0.21 / len(IDS)))
    assert ((wrong - LABELS)[hit] % 10 == 1).all()


def test_what_a_row_becomes_depends_on_its_id_and_the_seed_alone():
    given = CorruptionConfig(label_share=0.5)
    whole = given.wrong(LABELS, IDS, 10)
    order = np.random.default_rng(0).permutation(len(IDS))[:500]
    np.testing.assert_array_equal(given.wrong(LABELS[order], [IDS[i] for i in order], 10), whole[order])
    assert (replace(given, seed=1).wrong(LABELS, IDS, 10) != whole).any()
    assert whole[:8].tolist() == [7, 9, 8, 0, 7, 0, 6, 7]  # runs of earlier versions are repeated


@pytest.mark.parametrize("parts", [("train", "calibration", "validation"), ("train",)])
def test_only_the_parts_that_are_named_are_hit(small_config, parts):
    clean = Setup.build(small_config)
    given = CorruptionConfig(noise=(PIX,), label_share=0.5, parts=parts)
    bad = Setup.build(replace(small_config, corruption=given))
    for part in ("train", "calibration", "validation", "test"):
        rows = getattr(bad.splits, part)
        np.testing.assert_array_equal(rows, getattr(clean.splits, part))
        hit = PIX.hits([bad.dataset.ids[row] for row in rows])
        pairs = zip(clean.batches(part), bad.batches(part), strict=True)
        whole, damaged = zip(*((a.inputs, b.inputs) for a, b in pairs), strict=True)
        moved = torch.cat([(a["pix"] != b["pix"]).flatten(1).any(1) for a, b in zip(whole, damaged, strict=True)])
        assert moved.tolist() == (hit.tolist() if part in parts else [False] * len(rows))
        assert all(torch.equal(a["fou"], b["fou"]) for a, b in zip(whole, damaged, strict=True))
        wrong = bad.dataset.labels[rows] != clean.dataset.labels[rows]
        assert wrong.any() == (part in parts)
    np.testing.assert_array_equal(bad.intact, clean.dataset.labels)
    told = bad.describe()["corruption"]
    assert list(told) == list(parts)
    train = bad.splits.train
    assert told["train"]["labels"] == (bad.dataset.labels[train] != bad.intact[train]).sum()
    assert told["train"][PIX.name] == PIX.hits([bad.dataset.ids[row] for row in train]).sum()


def test_wrong_labels_and_noise_are_drawn_apart():
    """Otherwise the rows with wrong labels would be the noisy ones."""
    noise, corruption = (
        Noise(modality="label", kind="gaussian", severity=1.0, share=0.5),
        CorruptionConfig(label_share=0.5),
    )
    wrong = corruption.wrong(LABELS, IDS, 10) != LABELS
    assert (wrong == noise.hits(IDS)).mean() == pytest.approx(0.5, abs=0.02)  # five standard errors


def test_defaults_change_nothing(small_config):
    clean = Setup.build(small_config)
    assert CorruptionConfig().relabelled(clean.dataset, clean.splits) is clean.dataset
    assert CorruptionConfig(noise=(PIX,)).noise_of("test") == ()
    assert CorruptionConfig(noise=(PIX,)).noise_of("calibration") == (PIX,)
    assert CorruptionConfig(label_share=0.0) == CorruptionConfig()
    with pytest.raises(UserError, match=r"corruption.label_share must lie in \[0, 1\), got -0.1"):
        CorruptionConfig(label_share=-0.1)


def test_what_the_loop_trains_and_calibrates_on_is_hit(small_config):
    clean, bad = (
        Setup.build(replace(small_config, corruption=CorruptionConfig(noise=noise, label_share=share)))
        for noise, share in (((), 0.0), ((PIX,), 0.5))
    )
    for a, b in (
        [next(iter(one.batches("calibration"))) for one in (clean, bad)],
        (next(iter(clean.training_batches(clean.order()))), next(iter(bad.training_batches(bad.order())))),
    ):
        assert torch.equal(a.inputs["fou"], b.inputs["fou"])
        assert not torch.equal(a.inputs["pix"], b.inputs["pix"])
        assert not torch.equal(a.labels, b.labels)


def test_nothing_is_said_of_what_was_not_done(small_config):
    assert "corruption" not in Setup.build(small_config).describe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_share": 1.0}, r"corruption.label_share must lie in \[0, 1\), got 1.0"),
        ({"parts": ["train", "train"]}, "corruption.parts must be different"),
        ({"parts": ["test"]}, r"corruption.parts\[0\] must be one of train, calibration, validation, got 'test'"),
        ({"parts": "train"}, "corruption.parts must be array, got 'train'"),
        ({"labels": "some"}, "corruption.labels must be one of symmetric, asymmetric, got 'some'"),
        (
            {"noise": [{"modality": "ear", "kind": "gaussian", "severity": 1.0}]},
            "modality must be one of pix, fou, got 'ear'",
        ),
    ],
)
def test_what_cannot_be_done_is_told(small_config, changes, message):
    table = small_config.to_plain()
    table["corruption"] |= changes
    with pytest.raises(UserError, match=message):
        RunConfig.from_plain(table)


def test_noise_that_a_modality_cannot_have_is_refused_before_training(small_config):
    bad = CorruptionConfig(noise=(Noise(modality="fou", kind="salt-and-pepper", severity=0.1),))
    with pytest.raises(UserError, match="no bounds"):
        Setup.build(replace(small_config, corruption=bad))


def test_wrong_labels_and_noise_of_one_seed_are_drawn_apart():
    ids = [f"sample {i}" for i in range(4000)]
    wrong = CorruptionConfig(label_share=0.5).wrong(np.zeros(len(ids), np.int64), ids, 10)
    noisy = Noise(modality="m", kind="gaussian", severity=0.1, share=0.5).hits(ids)
    assert ((wrong > 0) & noisy).mean() == pytest.approx(0.25, abs=0.03)  # four binomial standard errors
    # Which other class it is does not depend on the draw that made the label wrong.
    np.testing.assert_allclose(np.bincount(wrong)[1:] / (wrong > 0).sum(), 1 / 9, atol=0.03)
