"""Noise on training rows as augmentation: drawn anew each epoch, the same for any division of the work."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpsc_train import resume, train
from cpsc_train.config import apply_settings
from cpsc_train.data import Dataset, Loader, Modality, Noise, Preprocessing, Shuffled
from cpsc_train.data.corruption import augmentation
from cpsc_train.errors import UserError
from cpsc_train.output import Output
from cpsc_train.reporting import Observer
from cpsc_train.reporting.console import print_results
from cpsc_train.training import RunConfig
from cpsc_train.training.setup import Setup

ROWS = 400


class Mixed(Dataset):
    """Zeros in a vector, and texts of eight words that become the number of words that are blank."""

    classes = ("even", "odd")

    def __init__(self):
        self.modalities = {
            "vector": Modality(kind="vector", shape=(2,), mean=(0.0,), std=(1.0,)),
            "text": Modality(kind="text", shape=(1,), vocabulary=10),
        }
        self.ids = [f"s{i}" for i in range(ROWS)]
        self.labels = np.arange(ROWS) % 2

    def read(self, modality, rows, /):
        if modality == "text":
            return np.array(["a b c d e f g h"] * len(rows), dtype=object)
        return np.zeros((len(rows), 2), np.float32)

    def inputs(self, modality, values, /):
        return values if modality == "vector" else np.array([[text.count("_")] for text in values])


VECTOR = Noise(modality="vector", kind="gaussian", severity=1.0, share=0.3)
DROPPED = replace(VECTOR, kind="dropout", severity=1.0)
TEXT = Noise(modality="text", kind="words", severity=0.5, share=0.3)


def seen(*augment, epoch=0, seed=0, size=64, workers=0, start=0):
    """Return the inputs by sample id, as lists."""
    dataset, rows = Mixed(), np.arange(ROWS)
    order = Shuffled(ROWS, batch_size=size, accumulate=1, seed=seed)
    order.go_to(epoch=epoch, step=start)
    loader = Loader(dataset, rows, Preprocessing(dataset, rows), order, augment=augment, workers=workers)
    return {
        i: (x, y)
        for b in loader
        for i, x, y in zip(b.ids, b.inputs["vector"].tolist(), b.inputs["text"].tolist(), strict=True)
    }


def test_draws_depend_on_seed_epoch_and_sample_alone():
    first = seen(VECTOR, TEXT)
    assert first == seen(VECTOR, TEXT, size=37) == seen(VECTOR, TEXT, workers=2)
    late = seen(VECTOR, TEXT, start=3)
    assert late == {i: first[i] for i in late}
    hit = {}
    for name, place in (("vector", 0), ("text", 1)):
        hit[name] = np.array([any(x[place]) for x in first.values()])
        assert hit[name].mean() == pytest.approx(0.3, abs=0.08)  # 3.5 standard errors
        for other in (seen(VECTOR, TEXT, epoch=1), seen(VECTOR, TEXT, seed=1)):
            again = np.array([any(other[i][place]) for i in first])
            assert (again & hit[name]).mean() == pytest.approx(0.09, abs=0.05)
    assert (hit["vector"] & hit["text"]).mean() == pytest.approx(0.09, abs=0.05)


def test_two_kinds_on_one_modality_hit_rows_of_their_own():
    one, other = ({i for i, x in seen(noise).items() if any(x[0])} for noise in (VECTOR, replace(VECTOR, severity=2.0)))
    assert one == other  # alone, each has the same draw
    both = seen(replace(VECTOR, severity=1e-3), replace(VECTOR, severity=1e3))
    size = np.abs([x[0] for x in both.values()]).max(1)
    assert (size > 0.1).mean() == pytest.approx(0.3, abs=0.08)
    assert ((size > 0) & (size < 0.1)).mean() == pytest.approx(0.21, abs=0.08)


def test_only_training_batches_are_hit(small_config):
    augment = augmentation("pix:gaussian:2-of-0.5")
    clean, noisy = Setup.build(small_config), Setup.build(replace(small_config, augment=augment))
    for part in ("train", "calibration", "validation", "test"):
        for a, b in zip(clean.batches(part), noisy.batches(part), strict=True):
            assert torch.equal(a.inputs["pix"], b.inputs["pix"])
    plain, augmented = (
        torch.cat([b.inputs["pix"] for b in one.training_batches(one.order())]) for one in (clean, noisy)
    )
    assert (plain != augmented).flatten(1).any(1).float().mean() == pytest.approx(0.5, abs=0.15)
    assert clean.describe()["seen"] == {"training": []}
    assert noisy.describe()["seen"] == {"training": ["pix:gaussian"]}


def test_noise_of_corrupted_training_data_was_seen_too(small_config):
    config = apply_settings(
        replace(small_config, augment=augmentation("fou:dropout:0.5")),
        ['corruption.noise=[{modality="pix",kind="gaussian",severity=1.0}]'],
    )
    assert Setup.build(config).describe()["seen"] == {"training": ["pix:gaussian", "fou:dropout"]}
    unseen = apply_settings(config, ['corruption.parts=["validation"]'])
    assert Setup.build(unseen).describe()["seen"] == {"training": ["fou:dropout"]}


def test_a_resumed_run_is_the_whole_one(small_config, tmp_path, capsys):
    class Stopped(Exception):
        pass

    class Stops(Observer):
        count = 0

        def step(self):
            self.count += 1
            if self.count == 4:
                raise Stopped

    settings = ["method.name=joint", "checkpoints.every_steps=1", "noise=[]"]
    config = apply_settings(replace(small_config, augment=augmentation("pix:gaussian:1-of-0.5")), settings)
    expected = train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "paused", Stops())
    results = resume(tmp_path / "paused")
    assert {**results, "seconds": 0} == {**expected, "seconds": 0}
    plain = train(replace(config, augment=()), tmp_path / "plain")
    metrics = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "paused", "plain")
    ]
    assert metrics[0] == metrics[1] != metrics[2]
    assert plain["seen"]["training"] == []
    print_results(results, Output())
    assert "noise in training: pix:gaussian" in capsys.readouterr().out


def test_options_of_the_command_line(cpsc, quick, tmp_path):
    options = ["--augment", "pix:gaussian:0.5", "--augment", "fou:dropout:0.2,0.4-of-0.1", "--method", "joint"]
    outcome = cpsc("train", "--out", tmp_path / "run", *options, *quick[:-4])
    assert outcome.code == 0, outcome.err
    config = RunConfig.from_plain(tomllib.loads((tmp_path / "run" / "config.toml").read_text()))
    assert [noise.name for noise in config.augment] == [
        "pix-gaussian-0.5-of-0.3",
        "fou-dropout-0.2-of-0.1",
        "fou-dropout-0.4-of-0.1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pix:gaussian:0.5-of-some", "the share of an augmentation must be a number"),
        ("pix:gaussian:0.5-of-2", r"share of gaussian noise must lie in \(0, 1\], got 2"),
        ("pix", "noise must read"),
        ("ear:gaussian:1", "modality must be one of pix, fou, got 'ear'"),
        ("fou:salt-and-pepper:0.1", "no bounds"),
    ],
)
def test_bad_augmentation(small_config, text, message):
    with pytest.raises(UserError, match=message):
        Setup.build(replace(small_config, augment=augmentation(text)))
