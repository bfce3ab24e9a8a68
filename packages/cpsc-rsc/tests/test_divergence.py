import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import kl_div
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpsc_rsc import divergence_loss


def kl(p, q):
    return kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="sum", log_target=True)


def js(p, q):
    m = ((p + q) / 2).clamp_min(1e-300).log()  # where m is 0, so are p and q
    return (kl_div(m, p, reduction="sum") + kl_div(m, q, reduction="sum")) / 2


def reference(h, c, kind, consistency, diversity):
    """The equation, term by term over samples and pairs."""
    total = 0.0
    for hb, cb in zip(h, c, strict=True):
        n = len(cb)
        if kind == "kl":
            near = sum(kl(hb, ck) for ck in cb) / n
            apart = sum(kl(cb[i], cb[j]) for i in range(n) for j in range(n) if i != j) / max(n * (n - 1), 1)
        else:
            p, q = cb.softmax(-1), hb.softmax(-1)
            near = sum(js(q, pk) for pk in p) / n
            rest = [sum((p[j] for j in range(n) if j != i), torch.zeros_like(q)) / max(n - 1, 1) for i in range(n)]
            apart = sum(js(p[i], rest[i]) for i in range(n)) / n if n > 1 else 0.0
        total += consistency * near - diversity * apart
    return total / len(h)


def draw(batch, n, d, scale, seed=0):
    g = torch.Generator().manual_seed(seed)
    h = torch.randn(batch, d, dtype=torch.float64, generator=g) * scale
    return h, torch.randn(batch, n, d, dtype=torch.float64, generator=g) * scale


@pytest.mark.parametrize("kind", ["kl", "js"])
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 20)),
    scale=st.sampled_from([1e-3, 1.0, 10.0]),
    weights=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    seed=st.integers(0, 999),
)
def test_closed_form_equals_the_double_sum(kind, shape, scale, weights, seed):
    h, c = draw(*shape, scale, seed)
    consistency, diversity = weights
    got = divergence_loss(h, c, consistency=consistency, diversity=diversity, kind=kind)
    expected = torch.as_tensor(reference(h, c, kind, consistency, diversity), dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["kl", "js", "js-reversed"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_gradient(kind, n):
    h, c = draw(2, n, 4, 1.0)
    h.requires_grad_()
    c.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, c: divergence_loss(h, c, kind=kind), (h, c))
    assert torch.autograd.gradgradcheck(lambda h, c: divergence_loss(h, c, kind=kind), (h, c))


@given(n=st.integers(2, 6), scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]), seed=st.integers(0, 999))
def test_js_is_bounded_and_not_above_the_mean_over_pairs(n, scale, seed):
    h, c = draw(2, n, 8, scale, seed)
    apart = -divergence_loss(h, c, consistency=0, diversity=1, kind="js").item()
    near = divergence_loss(h, c, consistency=1, diversity=0, kind="js").item()
    p = c.softmax(-1)
    pairs = sum(js(pb[i], pb[j]).item() for pb in p for i in range(n) for j in range(n) if i != j) / (2 * n * (n - 1))
    assert -1e-12 <= near <= math.log(2) + 1e-12
    assert -1e-12 <= apart <= pairs + 1e-12 <= math.log(2) + 2e-12
    if n == 2:
        assert apart == pytest.approx(pairs, abs=1e-12)


def test_disjoint_components_are_the_most_diverse():
    c = (torch.eye(4) * 1e3).unsqueeze(0)
    apart = -divergence_loss(torch.zeros(1, 4), c, consistency=0, diversity=1, kind="js")
    assert apart.item() == pytest.approx(math.log(2), rel=1e-6)


def test_minus_kl_is_not_bounded_and_js_is():
    h = torch.zeros(1, 4)
    for scale in (1e2, 1e3, 1e4):
        c = (torch.eye(4) * scale).unsqueeze(0)
        assert divergence_loss(h, c, consistency=0, diversity=1, kind="kl") < -scale / 2
        assert divergence_loss(h, c, consistency=0, diversity=1, kind="js") >= -math.log(2) - 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["kl", "js", "js-reversed"])
def test_half_precision_is_computed_in_single(kind, dtype):
    h, c = (x.to(dtype) for x in draw(8, 10, 64, 3.0))
    with torch.autocast("cpu", dtype=dtype):
        got = divergence_loss(h, c, kind=kind)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, divergence_loss(h.double(), c.double(), kind=kind).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["kl", "js", "js-reversed"])
@pytest.mark.parametrize("norm", [0.0, 1e-6, 1e-2, 1.0, 1e2, 1e4])
def test_value_and_gradient_are_finite_at_any_length(kind, norm):
    h, c = (torch.nn.functional.normalize(x.float(), dim=-1) * norm for x in draw(16, 10, 64, 1.0))
    h.requires_grad_()
    c.requires_grad_()
    loss = divergence_loss(h, c, kind=kind)
    loss.backward()
    assert all(x.isfinite().all() for x in (loss, h.grad, c.grad))


def test_work_does_not_grow_with_pairs():
    """Elements touched at n = 80 are at most ten times those at n = 10; the double sum would touch 71 times as many."""

    class Count(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.elements += sum(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))
            return out

    for kind in ("kl", "js"):
        touched = []
        for n in (10, 80):
            h, c = (x.requires_grad_() for x in draw(4, n, 32, 1.0))
            with Count() as count:
                divergence_loss(h, c, kind=kind).backward()
            touched.append(count.elements)
        assert touched[1] <= 10 * touched[0]


@pytest.mark.parametrize("kind", ["kl", "js", "js-reversed"])
def test_per_sample_gradients_by_torch_func(kind):
    h, c = draw(4, 5, 6, 1.0)

    def one(h, c):
        return divergence_loss(h.unsqueeze(0), c.unsqueeze(0), kind=kind)

    got = torch.func.vmap(torch.func.grad(one, argnums=1))(h, c)
    c.requires_grad_()
    (expected,) = torch.autograd.grad(divergence_loss(h, c, kind=kind), c)
    torch.testing.assert_close(got / 4, expected)


def test_reversed_is_half_the_divergences_from_the_mixture():
    """By scalar arithmetic, over true pairs, as the authors' code has it."""
    h, c = draw(2, 3, 4, 1.0)

    def reverse(p, q):
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return sum(x * (math.log(x / a) + math.log(x / b)) / 2 for x, a, b in zip(m, p, q, strict=True))

    expected = 0.0
    for hb, cb in zip(h.softmax(-1).tolist(), c.softmax(-1).tolist(), strict=True):
        near = sum(reverse(hb, ck) for ck in cb) / 3
        apart = sum(reverse(cb[i], cb[j]) for i in range(3) for j in range(3) if i != j) / 6
        expected += (0.8 * near - 0.2 * apart) / 2
    assert divergence_loss(h, c, kind="js-reversed").item() == pytest.approx(expected, rel=1e-12)
    assert divergence_loss(h, c[:, :1], consistency=0, kind="js-reversed") == 0
