"""States of the random generators."""

import random

import numpy as np
import torch

from cpsc_train.training import checkpoint, random_states


def drawn():
    return [random.random(), np.random.random(), torch.rand(1).item()]  # noqa: NPY002, S311


def test_every_source_of_randomness_comes_back(tmp_path):
    checkpoint.save(tmp_path / "c.pt", {"random": random_states.random_states()})
    first = drawn()
    random_states.set_random_states(checkpoint.load(tmp_path / "c.pt", torch.device("cpu"))["random"])
    assert first == drawn()


def test_states_of_gpus_come_back(monkeypatch):
    states, restored = [torch.arange(4, dtype=torch.uint8), torch.arange(2, dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: restored.append(state))
    state = random_states.random_states()
    random_states.set_random_states(state)
    assert all(map(torch.equal, restored, states))
    assert len(restored) == 2
    random_states.set_random_states(state | {"cuda": []})  # of a run without a GPU
    assert len(restored) == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    random_states.set_random_states(state)
    assert len(restored) == 3


def test_processes_and_positions_have_their_own_seeds():
    draws = []
    for entropy in ((0, 1, 2, 0), (0, 1, 2, 1), (0, 1, 3, 0), (0, 1, 2, 0)):
        random_states.seed_all(*entropy)
        draws.append(drawn())
    assert draws[0] == draws[3]
    assert all(len(set(column)) == 3 for column in zip(*draws, strict=True))
