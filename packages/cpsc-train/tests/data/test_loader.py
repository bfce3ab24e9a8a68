from __future__ import annotations

import gc
import os

import numpy as np
import pytest
import torch

from cpsc_train.data import Dataset, InOrder, Loader, Modality, Noise, Preprocessing, Shuffled
from cpsc_train.errors import UserError


class Numbers(Dataset):
    classes = ("even", "odd")

    def __init__(self, rows=10, bad=None, error=None):
        self.modalities = dict.fromkeys("ab", Modality(kind="vector", shape=(2,)))
        self.ids = [f"s{i}" for i in range(rows)]
        self.labels = np.arange(rows) % 2
        self.bad, self.error = bad, error

    def read(self, modality, rows, /):
        if self.bad in rows:
            raise self.error
        return np.stack([rows, rows + 1], 1).astype(np.float32)

    def augmented(self, modality, rows, generators, /):
        draws = np.array([[generator.random()] for generator in generators])
        return (self.read(modality, rows) + draws).astype(np.float32)


def batches(dataset, order, **options):
    rows = np.arange(len(dataset))
    scale = Preprocessing(Numbers(len(dataset)), rows)
    return list(Loader(dataset, rows, scale, order, **options))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_once_in_order(workers):
    found = batches(Numbers(), InOrder(10, 4), workers=workers)
    assert [i for batch in found for i in batch.ids] == [f"s{i}" for i in range(10)]
    assert [len(batch) for batch in found] == [4, 4, 2]


def test_augmentation_depends_on_seed_epoch_and_sample_alone():
    def seen(seed, epoch, size, workers=0):
        order = Shuffled(10, batch_size=size, accumulate=1, seed=seed)
        order.go_to(epoch=epoch, step=0)
        found = batches(Numbers(), order, workers=workers)
        return {
            i: (x, y)
            for b in found
            for i, x, y in zip(b.ids, b.inputs["a"].tolist(), b.inputs["b"].tolist(), strict=True)
        }

    first = seen(0, 0, 4)
    assert first == seen(0, 0, 3) == seen(0, 0, 4, workers=2)
    assert first != seen(0, 1, 4)
    assert first != seen(1, 0, 4)
    assert all(a == b for a, b in first.values())  # both modalities of a sample are given the same draws


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("clip.wav: holds no samples"), r"^clip\.wav: holds no samples$"),
        (PermissionError(13, "Permission denied", "clip.wav"), r"^clip\.wav: cannot be read \(Permission denied\)$"),
        (OSError("gone"), r"^one of the samples s4, s5, s6, s7: cannot be read \(gone\)$"),
    ],
)
def test_what_a_worker_meets_is_one_sentence(workers, error, said):
    with pytest.raises(UserError, match=said):
        batches(Numbers(bad=5, error=error), InOrder(10, 4), workers=workers)


class Collecting(Numbers):
    def read(self, modality, rows, /):
        gc.collect()
        return super().read(modality, rows)


def test_a_worker_frees_no_object_of_its_parent(tmp_path):
    class Decoder:
        def __init__(self):
            self.cycle, self.process = self, os.getpid()

        def __del__(self):
            if os.getpid() != self.process:
                (tmp_path / "freed").touch()

    gc.disable()
    try:
        Decoder()
        batches(Collecting(), InOrder(10, 4), workers=1)
    finally:
        gc.enable()
    gc.collect()
    assert not (tmp_path / "freed").exists()


def test_reading_leaves_the_random_state_alone():
    torch.manual_seed(0)
    batches(Numbers(), InOrder(10, 4), workers=1)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_more_workers_than_cores_are_no_warning(monkeypatch):
    """Warnings are errors here, and torch gives one at the start and at every pass."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert len(batches(Numbers(), InOrder(10, 4), workers=2)) == 3


class StoredNoise(Numbers):
    """Stores one corruption of ``a``, which a vector could not have: all of its rows but the last are negative."""

    def corrupted(self, modality, noise, rows, /):
        if (modality, noise.kind, noise.severity) != ("a", "salt-and-pepper", 0.1):
            return None
        if len(self) - 1 in rows:
            raise UserError("a@salt-and-pepper-0.1: has no row s9")
        return -self.read(modality, rows)


def test_a_stored_corruption_takes_the_place_of_noise():
    noise = Noise(modality="a", kind="salt-and-pepper", severity=0.1, share=0.5)
    noise.check_on(StoredNoise())
    with pytest.raises(UserError, match="a has no bounds"):
        Noise(modality="a", kind="salt-and-pepper", severity=0.2).check_on(StoredNoise())
    rows = np.arange(9)
    scale = Preprocessing(Numbers(), rows)
    (batch,) = Loader(StoredNoise(), rows, scale, InOrder(9, 9), noise=(noise,))
    hit = noise.hits(batch.ids)
    assert 0 < hit.sum() < 9
    clean = Numbers().read("a", rows)
    np.testing.assert_array_equal(batch.inputs["a"].numpy(), scale("a", np.where(hit[:, None], -clean, clean)))
    np.testing.assert_array_equal(batch.inputs["b"].numpy(), scale("b", clean))


def test_a_stored_corruption_that_lacks_rows_or_meets_another_is_refused():
    noise = Noise(modality="a", kind="salt-and-pepper", severity=0.1)
    with pytest.raises(UserError, match="has no row s9"):
        batches(StoredNoise(), InOrder(10, 10), noise=(noise,))
    with pytest.raises(UserError, match=r"a-salt-and-pepper-0\.1 and a-.*: stored corruptions .* cannot be combined"):
        batches(StoredNoise(), InOrder(10, 10), noise=(noise, noise))
