"""Novelty: the distances of the trust before they are cut off at 0, so that clean rows differ."""

import torch

from cpsc_rsc import ConformalTrust


def rows(n, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {"a": tuple(scale * torch.randn(n, d, generator=generator) for d in (3, 5))}


def fitted():
    trust = ConformalTrust({"a": (3, 5)}, alpha=0.1)
    trust.update(rows(400, 0))
    trust.calibrate(rows(99, 1))
    return trust


def test_distances_of_far_rows_are_their_novelty():
    trust, asked = fitted(), rows(200, 2, scale=1.5)
    novelty, distances = trust.novelty(asked)["a"], trust.distances(asked)["a"]
    assert torch.equal(distances[novelty > 0], novelty[novelty > 0])
    assert (distances[novelty < 0] > 0).double().mean() < 0.03  # rows that vary too little
    assert (novelty > 0).any()
    assert len(novelty[novelty < 0].unique()) == (novelty < 0).sum() > 50


def test_mild_noise_raises_it_where_the_distance_stays_zero():
    trust = fitted()
    clean, noisy = (trust.novelty(rows(300, 2, scale))["a"] for scale in (1.0, 1.15))
    hidden = noisy < 0
    assert hidden.double().mean() > 0.5
    assert (noisy[hidden] > clean[hidden]).all()


def test_what_is_not_a_number_is_infinitely_new():
    broken = rows(4, 2)
    broken["a"][0][1] = torch.nan
    novelty = fitted().novelty(broken)["a"]
    assert novelty[1] == torch.inf
    assert novelty[[0, 2, 3]].isfinite().all()
