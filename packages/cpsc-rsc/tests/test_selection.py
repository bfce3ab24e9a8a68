import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conformal_core import LAC, Margin
from cpsc_rsc import component_reliability, recompose, top_k
from odds import Odds

B, N, D, C = 6, 5, 8, 4


def reliability_by_hand(probabilities, label, qhat, kind):
    scores = [1 - p for p in probabilities.tolist()]
    inside = [s for s in scores if s <= qhat]
    if scores[label] > qhat:
        return 0.0
    rank = sum(s < scores[label] for s in scores)
    return 1 - rank / len(inside) if kind == "normalized" else 1 / (rank + 1)


@pytest.mark.parametrize("kind", ["normalized", "reciprocal"])
@pytest.mark.parametrize("qhat", [0.0, 0.6, 0.75, 0.9, 1.0])
def test_reliability_of_every_component(kind, qhat):
    head = nn.Linear(D, C).double()
    c, labels = torch.randn(B, N, D, dtype=torch.float64), torch.randint(0, C, (B,))
    threshold = torch.tensor(qhat, dtype=torch.float64)
    reliability, scores = component_reliability(c, labels, head=head, qhat=threshold, kind=kind)
    for b in range(B):
        for k in range(N):
            p = head(c[b, k]).softmax(-1)
            assert reliability[b, k].item() == pytest.approx(
                reliability_by_hand(p, labels[b].item(), qhat, kind), abs=1e-12
            )
            assert scores[b, k].item() == pytest.approx(1 - p[labels[b]].item(), abs=1e-12)


@pytest.mark.parametrize("kind", ["normalized", "probability"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_dtype(dtype, kind):
    head, qhat = nn.Linear(D, 300), torch.tensor(0.999)  # more classes than a byte counts
    c, labels = torch.randn(B, N, D), torch.randint(0, 100, (B,))
    narrow, wide = (component_reliability(c, y, head=head, qhat=qhat, kind=kind) for y in (labels.to(dtype), labels))
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.299"):
        component_reliability(c, torch.full((B,), -1, dtype=torch.int8), head=head, qhat=qhat)


def test_infinite_quantile_puts_every_class_in_the_set():
    reliability, _ = component_reliability(
        torch.randn(B, N, D), torch.zeros(B, dtype=torch.long), head=nn.Linear(D, C), qhat=torch.tensor(torch.inf)
    )
    assert ((reliability * C).round() >= 1).all()


@pytest.mark.parametrize("score", [LAC(), Margin()])
def test_any_score_of_conformal_core(score):
    head = nn.Linear(D, C)
    c, labels = torch.randn(B, N, D), torch.randint(0, C, (B,))
    _, scores = component_reliability(c, labels, head=head, qhat=torch.tensor(0.9), score=score)
    expected = score(head(c).softmax(-1)).gather(-1, labels.view(B, 1, 1).expand(B, N, 1)).squeeze(-1)
    torch.testing.assert_close(scores, expected)


def test_reliability_has_no_gradient_and_leaves_the_head_alone():
    head = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Dropout(0.5), nn.Linear(D, C))
    head[2].eval()  # a layer that its owner froze stays frozen
    before = {k: v.clone() for k, v in head.state_dict().items()}
    c = torch.randn(B, N, D, requires_grad=True)
    first, second = (
        component_reliability(c, torch.zeros(B, dtype=torch.long), head=head, qhat=torch.tensor(0.9)) for _ in range(2)
    )
    assert not first[0].requires_grad
    assert torch.equal(first[1], second[1])  # dropout is off
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())  # running statistics too
    assert [m.training for m in head] == [True, True, False, True]
    assert head.training


def test_modes_come_back_after_an_error():
    head = nn.Sequential(nn.Linear(D + 1, C))
    with pytest.raises(RuntimeError):
        component_reliability(torch.randn(B, N, D), torch.zeros(B).long(), head=head, qhat=torch.tensor(0.9))
    assert head.training
    assert head[0].training


def test_a_head_may_be_a_function():
    weight = torch.randn(D, C)
    c, labels = torch.randn(B, N, D), torch.randint(0, C, (B,))
    reliability, _ = component_reliability(c, labels, head=lambda x: x @ weight, qhat=torch.tensor(0.9))
    assert reliability.shape == (B, N)


few_values = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(data=st.data(), n=st.integers(1, 12))
def test_top_k_is_the_lexicographic_order(data, n):
    r = data.draw(st.lists(few_values, min_size=n, max_size=n))
    s = data.draw(st.lists(few_values, min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    got = top_k(torch.tensor([r]), torch.tensor([s]), k)
    assert got.tolist() == [sorted(range(n), key=lambda i: (-r[i], s[i], i))[:k]]


def test_all_tied_selects_the_first():
    assert top_k(torch.zeros(3, 200), torch.zeros(3, 200), 3).tolist() == [[0, 1, 2]] * 3


def test_gradient_reaches_the_selected_components_only():
    c = torch.randn(B, N, D, requires_grad=True)
    selected = torch.stack([torch.randperm(N)[:2] for _ in range(B)])
    recompose(c, selected).sum().backward()
    for b in range(B):
        for k in range(N):
            assert (c.grad[b, k] == (0.5 if k in selected[b] else 0.0)).all()


def test_weights_follow_reliability_and_fall_back_to_the_mean():
    c = torch.randn(2, 3, D)
    r = torch.tensor([[0.5, 0.25, 1.0], [0.0, 0.0, 0.0]])
    got = recompose(c, torch.tensor([[2, 0], [1, 2]]), r)
    torch.testing.assert_close(got[0], (1.0 * c[0, 2] + 0.5 * c[0, 0]) / 1.5)
    torch.testing.assert_close(got[1], (c[1, 1] + c[1, 2]) / 2)


@given(n=st.integers(1, 10), weighted=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=st.integers(0, 999))
def test_proposition_1(n, weighted, scale, seed):
    """The recomposed feature deviates from any reference at most as much as the selected components do on average."""
    g = torch.Generator().manual_seed(seed)
    c = torch.randn(4, n, D, dtype=torch.float64, generator=g) * scale
    reference = torch.randn(4, D, dtype=torch.float64, generator=g)
    r = torch.rand(4, n, dtype=torch.float64, generator=g) * (torch.rand(4, n, generator=g) > 0.3)
    k = 1 + seed % n
    selected = top_k(r, torch.rand(4, n, generator=g), k)
    kept = r.gather(-1, selected)
    total = kept.sum(-1, keepdim=True)
    weights = (
        torch.where(total > 0, kept / total.clamp_min(1e-300), 1 / k) if weighted else torch.full_like(kept, 1 / k)
    )
    deviations = (c.gather(1, selected.unsqueeze(-1).expand(4, k, D)) - reference.unsqueeze(1)).norm(dim=-1)
    got = (recompose(c, selected, r if weighted else None) - reference).norm(dim=-1)
    bound = (weights * deviations).sum(-1)
    assert (got <= bound * (1 + 1e-12)).all()
    assert (bound <= deviations.max(-1).values * (1 + 1e-12)).all()


def test_a_probability_takes_no_notice_of_the_prediction_set():
    components = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    for qhat in (0.0, 0.5, torch.inf):
        reliability, scores = component_reliability(
            components,
            torch.tensor([1]),
            head=torch.nn.Identity(),
            qhat=torch.tensor(qhat, dtype=torch.float64),
            kind="probability",
        )
        expected = components.softmax(-1)[..., 1]
        torch.testing.assert_close(reliability, expected)
        torch.testing.assert_close(scores, 1 - expected)


@pytest.mark.parametrize("kind", ["normalized", "reciprocal", "probability"])
def test_a_score_of_ones_own_ranks_as_the_probability_does(kind):
    head, c, labels = nn.Linear(D, C), torch.randn(B, N, D), torch.randint(0, C, (B,))
    lac, own = (
        component_reliability(c, labels, head=head, qhat=torch.tensor(torch.inf), score=score, kind=kind)[0]
        for score in (LAC(), Odds())
    )
    assert torch.equal(lac, own)
