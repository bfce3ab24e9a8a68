import pytest
import torch
from torch import nn

from cpsc_rsc import Decomposition, mix_residual

B, N, D = 4, 5, 8


def test_linear_is_relu_of_a_matrix_split_into_components():
    decomposition, h = Decomposition(D, components=N, residual=1.0, match_magnitude=False), torch.randn(B, D)
    weight = decomposition.net[0].weight
    assert weight.shape == (N * D, D)
    c = decomposition(h)
    for k in range(N):
        torch.testing.assert_close(c[:, k], (h @ weight[k * D : (k + 1) * D].T).relu())
    assert [name for name, _ in decomposition.named_parameters()] == ["net.0.weight"]  # no bias


def test_mlp_has_negative_components():
    c = Decomposition(D, components=N, kind="mlp", residual=1.0)(torch.randn(B, D))
    assert c.shape == (B, N, D)
    assert (c < 0).any()


@pytest.mark.parametrize("match_magnitude", [False, True])
@pytest.mark.parametrize("mixing", ["convex", "additive"])
@pytest.mark.parametrize("gamma", [1e-3, 0.3, 1.0])
def test_mixing_follows_its_equation(gamma, mixing, match_magnitude):
    c, h = torch.randn(B, N, D, dtype=torch.float64), torch.randn(B, D, dtype=torch.float64)
    got = mix_residual(h, c, residual=gamma, mixing=mixing, match_magnitude=match_magnitude)
    for b in range(B):
        for k in range(N):
            part = c[b, k] * (h[b].norm() / c[b, k].norm()) if match_magnitude else c[b, k]
            share = 1 - gamma if mixing == "convex" else 1
            expected = share * h[b] + gamma * part
            torch.testing.assert_close(got[b, k], expected, rtol=1e-14, atol=1e-14)


def test_matched_components_have_the_length_of_the_feature():
    h = torch.randn(B, D) * torch.tensor([1e-6, 1.0, 1e2, 1e4]).unsqueeze(1)
    c = Decomposition(D, components=N, kind="mlp", residual=1.0)(h)
    torch.testing.assert_close(c.norm(dim=-1), h.norm(dim=-1, keepdim=True).expand(B, N))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", [0.0, 1e-6, 1.0, 1e4])
def test_components_of_length_zero_stay_zero_with_finite_gradient(norm, dtype):
    c = torch.zeros(1, 2, D, dtype=dtype)
    c[0, 1, 0] = 1.0
    h = torch.full((1, D), norm / D**0.5, dtype=dtype)
    c.requires_grad_()
    h.requires_grad_()
    out = mix_residual(h, c, residual=1.0, match_magnitude=True)
    out.sum().backward()
    assert (out[0, 0] == 0).all()
    assert c.grad.isfinite().all()
    assert h.grad.isfinite().all()


def test_gradient_of_matched_mixing():
    c, h = torch.rand(2, 3, 4, dtype=torch.float64) + 0.1, torch.randn(2, 4, dtype=torch.float64)
    c.requires_grad_()
    h.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, h: mix_residual(h, c, residual=0.3), (c, h))


def test_dead_relu_trains_on():
    decomposition = Decomposition(D, components=N, match_magnitude=True, residual=0.3)
    nn.init.constant_(decomposition.net[0].weight, -1.0)
    h = torch.rand(B, D, requires_grad=True)
    decomposition(h).sum().backward()
    assert h.grad.isfinite().all()
    assert (decomposition.net[0].weight.grad == 0).all()
