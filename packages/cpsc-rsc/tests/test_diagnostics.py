import pytest
import torch
from torch import nn

from cpsc_rsc import RepresentationSelfCalibration, diagnose

B, N, K = 32, 6, 2


def test_against_counting():
    reliability = torch.randint(0, 5, (B, N)) / 4
    selected = torch.stack([torch.randperm(N)[:K] for _ in range(B)])
    got = diagnose(reliability, selected, bins=4)
    cells = [(b, k) for b in range(B) for k in range(N)]
    kept = [(b, k) for b, k in cells if k in selected[b] and reliability[b, k] > 0]
    assert got.reliable.item() == pytest.approx(sum(reliability[c] > 0 for c in cells) / (B * N))
    assert got.kept.item() == pytest.approx(len(kept) / (B * N))
    torch.testing.assert_close(got.histogram, torch.histc(reliability, 4, 0, 1) / (B * N))
    torch.testing.assert_close(got.usage, torch.bincount(selected.flatten(), minlength=N) / B)


def test_totals():
    rsc = RepresentationSelfCalibration(8, components=N, top_k=K)
    out = rsc(torch.randn(B, 8), torch.zeros(B, dtype=torch.long), head=nn.Linear(8, 4), qhat=torch.tensor(0.8))
    got = diagnose(out.reliability, out.selected)
    assert got.histogram.sum().item() == pytest.approx(1)
    assert got.usage.sum().item() == pytest.approx(K)
    assert 0 < got.kept <= K / N
    assert got.kept <= got.reliable <= 1
