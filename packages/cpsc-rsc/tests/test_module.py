import copy
import io

import pytest
import torch
from torch import nn

from cpsc_rsc import (
    MultimodalSelfCalibration,
    RepresentationSelfCalibration,
    component_reliability,
    divergence_loss,
    recompose,
    top_k,
)

B, N, K, D, C = 16, 6, 2, 12, 4
QHAT = torch.tensor(0.9)


def make(**options):
    return RepresentationSelfCalibration(D, components=N, top_k=K, **options), nn.Linear(D, C)


def batch():
    return torch.randn(B, D), torch.randint(0, C, (B,))


@pytest.mark.parametrize("recomposition", ["mean", "weighted"])
@pytest.mark.parametrize("reliability", ["normalized", "reciprocal"])
@pytest.mark.parametrize("divergence", ["kl", "js"])
def test_the_module_is_its_functions_in_order(divergence, reliability, recomposition):
    rsc, head = make(
        divergence=divergence, reliability=reliability, recomposition=recomposition, consistency=0.7, diversity=0.1
    )
    h, labels = batch()
    out = rsc(h, labels, head=head, qhat=QHAT)
    components = rsc.decomposition(h)
    expected, scores = component_reliability(components, labels, head=head, qhat=QHAT, kind=reliability)
    selected = top_k(expected, scores, K)
    weights = expected if recomposition == "weighted" else None
    assert torch.equal(out.components, components)
    assert torch.equal(out.reliability, expected)
    assert torch.equal(out.selected, selected)
    assert torch.equal(out.recomposed, recompose(components, selected, weights))
    loss = divergence_loss(h, components, consistency=0.7, diversity=0.1, kind=divergence)
    assert torch.equal(out.divergence, loss)
    assert not out.reliability.requires_grad


def test_options_of_the_decomposition_arrive():
    rsc, _ = make(residual=0.3, mixing="additive", match_magnitude=True, decomposition="mlp")
    d = rsc.decomposition
    assert (d.residual, d.mixing, d.match_magnitude, d.kind, d.n, d.dim) == (0.3, "additive", True, "mlp", N, D)


def test_one_step_lowers_the_loss_it_minimises():
    rsc, head = make()
    h, labels = batch()
    optimizer = torch.optim.SGD([*rsc.parameters(), *head.parameters()], lr=0.05)
    losses = []
    for _ in range(20):
        out = rsc(h, labels, head=head, qhat=QHAT)
        loss = out.divergence + nn.functional.cross_entropy(head(out.recomposed), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kept", [1, N])
def test_extreme_k(kept):
    rsc, head = RepresentationSelfCalibration(D, components=N, top_k=kept), nn.Linear(D, C)
    h, labels = batch()
    out = rsc(h, labels, head=head, qhat=QHAT)
    if kept == N:
        torch.testing.assert_close(out.recomposed, out.components.mean(1))
    else:
        torch.testing.assert_close(out.recomposed, out.components[torch.arange(B), out.selected[:, 0]])


def test_a_row_is_calibrated_the_same_alone_and_in_a_batch():
    rsc, head = (m.double() for m in make())
    h, labels = torch.randn(B, D, dtype=torch.float64), torch.randint(0, C, (B,))
    whole = rsc(h, labels, head=head, qhat=QHAT)
    for b in range(B):
        row = rsc(h[b : b + 1], labels[b : b + 1], head=head, qhat=QHAT)
        assert torch.equal(row.selected[0], whole.selected[b])
        torch.testing.assert_close(row.recomposed[0], whole.recomposed[b], rtol=1e-12, atol=1e-12)


def test_an_empty_batch_passes_through():
    rsc, head = make()
    out = rsc(torch.randn(0, D), torch.zeros(0, dtype=torch.long), head=head, qhat=QHAT)
    assert out.recomposed.shape == (0, D)
    assert out.selected.shape == (0, K)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", [0.0, 1e-6, 1e-3, 1.0, 1e2, 1e4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"divergence": "js", "decomposition": "mlp"},
        {"residual": 0.3, "match_magnitude": True, "recomposition": "weighted"},
    ],
)
def test_finite_under_autocast(options, norm, dtype):
    rsc, head = make(**options)
    h, labels = batch()
    h = (nn.functional.normalize(h, dim=-1) * norm).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = rsc(h, labels, head=head, qhat=QHAT)
        loss = out.divergence + nn.functional.cross_entropy(head(out.recomposed).float(), labels)
    loss.backward()
    assert out.divergence.dtype == torch.float32
    assert out.reliability.dtype == torch.float32
    gradients = [h.grad, *(p.grad for p in [*rsc.parameters(), *head.parameters()])]
    assert all(x.isfinite().all() for x in (loss, *out, *gradients))


def test_state_dict_round_trip_and_deepcopy():
    rsc, head = make(decomposition="mlp", residual=0.3)
    h, labels = batch()
    expected = rsc(h, labels, head=head, qhat=QHAT)
    file = io.BytesIO()
    torch.save(rsc.state_dict(), file)
    file.seek(0)
    fresh, _ = make(decomposition="mlp", residual=0.3)
    assert fresh.load_state_dict(torch.load(file, weights_only=True)) == torch.nn.modules.module._IncompatibleKeys(
        [], []
    )
    for other in (fresh, copy.deepcopy(rsc)):
        got = other(h, labels, head=head, qhat=QHAT)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_deepcopy_shares_nothing():
    rsc, _ = make()
    other = copy.deepcopy(rsc)
    with torch.no_grad():
        other.decomposition.net[0].weight.zero_()
    assert (rsc.decomposition.net[0].weight != 0).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_to_another_dtype(dtype):
    rsc, head = (m.to(dtype) for m in make(residual=0.3, match_magnitude=True, recomposition="weighted"))
    h, labels = batch()
    out = rsc(h.to(dtype), labels, head=head, qhat=QHAT)
    assert out.components.dtype == out.recomposed.dtype == dtype
    assert out.divergence.dtype == (dtype if dtype == torch.float64 else torch.float32)


def test_several_modalities_are_several_modules():
    dims = {"audio": 8, "image": 12, "text": 20}
    rsc = MultimodalSelfCalibration(dims, components=N, top_k=K, residual=0.3)
    heads = nn.ModuleDict({m: nn.Linear(d, C) for m, d in dims.items()})
    h, labels = {m: torch.randn(B, d) for m, d in dims.items()}, torch.randint(0, C, (B,))
    qhat = {m: torch.tensor(0.5 + 0.1 * i) for i, m in enumerate(dims)}
    out = rsc(h, labels, heads=heads, qhat=qhat)
    assert list(out) == list(dims)
    for m in dims:
        alone = rsc[m](h[m], labels, head=heads[m], qhat=qhat[m])
        assert all(torch.equal(a, b) for a, b in zip(out[m], alone, strict=True))


def test_the_repr_names_every_option():
    text = repr(make(residual=0.3, divergence="js")[0])
    for option in ("top_k=2", "divergence='js'", "residual=0.3", "components=6", "reliability='normalized'"):
        assert option in text


def test_the_defaults_are_those_of_the_recipes():
    """And so of its README, which advises against the method as published."""
    for rsc in (RepresentationSelfCalibration(D), MultimodalSelfCalibration({"m": D})["m"]):
        assert (rsc.decomposition.residual, rsc.decomposition.match_magnitude) == (0.3, True)
        assert (rsc.decomposition.n, rsc.top_k, rsc.divergence) == (10, 3, "js")
        assert (rsc.consistency, rsc.diversity, rsc.reliability, rsc.recomposition) == (0.8, 0.2, "normalized", "mean")


def test_samples_that_lack_the_modality_have_no_part_in_it():
    rsc, head = make()
    h, labels = batch()
    mask = torch.arange(B) % 3 != 0
    h = torch.where(mask[:, None], h, 0.0).requires_grad_()
    out = rsc(h, labels, head=head, qhat=QHAT, present=mask)
    rest = rsc(h[mask], labels[mask], head=head, qhat=QHAT)
    torch.testing.assert_close(out.recomposed[mask], rest.recomposed)
    torch.testing.assert_close(out.reliability[mask], rest.reliability)
    torch.testing.assert_close(out.divergence, rest.divergence)
    assert not out.recomposed[~mask].any()
    assert not out.reliability[~mask].any()
    (gradient,) = torch.autograd.grad(out.recomposed.square().sum() + out.divergence, h)
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


def test_masks_of_several_modalities():
    rsc = MultimodalSelfCalibration({"a": D, "b": D}, components=N, top_k=K)
    heads = {m: nn.Linear(D, C) for m in rsc}
    (h, labels), mask = batch(), torch.zeros(B, dtype=torch.bool)
    of = {"heads": heads, "qhat": dict.fromkeys(rsc, QHAT)}
    out = rsc({"a": h, "b": h}, labels, **of, present={"b": mask})
    assert out["b"].divergence == 0
    assert torch.equal(out["a"].recomposed, rsc({"a": h, "b": h}, labels, **of)["a"].recomposed)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(B), TypeError, "present must be a tensor of booleans, got torch.float32"),
        (torch.ones(B - 1, dtype=torch.bool), ValueError, r"present must have shape \(16,\), got \(15,\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, error, message):
    rsc, head = make()
    h, labels = batch()
    with pytest.raises(error, match=message):
        rsc(h, labels, head=head, qhat=QHAT, present=mask)
