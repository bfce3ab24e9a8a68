import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from cpsc_gsc import collaborative_reliability, gsc_loss, gsc_weights, weighted_cross_entropy


def case(batch=9, classes=5, dtype=torch.float64, device="cpu", seed=0):
    torch.manual_seed(seed)
    logits = {m: torch.randn(batch, classes, dtype=dtype).to(device).requires_grad_() for m in ("audio", "image")}
    labels = torch.randint(classes, (batch,)).to(device)
    rest = {
        "fused_logits": torch.randn(batch, classes, dtype=dtype).to(device),
        "qhat": {m: torch.tensor(0.85, dtype=dtype).to(device) for m in logits},
    }
    return logits, labels, rest


@given(st.integers(0, 10_000), st.floats(0, 3), st.floats(0, 3))
def test_gradient_is_the_equation_sample_by_sample(seed, a, b):
    """∂CE_i/∂z_i = softmax(z_i) − onehot(y_i), so row i of the gradient is w_i (p_i − e_i) / B."""
    logits, labels, rest = case(seed=seed)
    gradients = torch.autograd.grad(gsc_loss(logits, labels, **rest, a=a, b=b), list(logits.values()))
    rho = collaborative_reliability(logits, **rest)
    for (modality, z), gradient in zip(logits.items(), gradients, strict=True):
        for i, row in enumerate(gradient):
            expected = z[i].softmax(-1).detach()
            expected[labels[i]] -= 1
            torch.testing.assert_close(row, (a * rho[modality][i] + b) * expected / len(labels))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_dtype(dtype):
    logits, labels, rest = case(classes=300)  # more classes than a byte counts
    narrow = labels.clamp(max=100).to(dtype)
    assert gsc_loss(logits, narrow, **rest).item() == gsc_loss(logits, narrow.long(), **rest).item()
    weights = gsc_weights(torch.ones(len(narrow)))
    both = [weighted_cross_entropy(logits, y, dict.fromkeys(logits, weights)).item() for y in (narrow, narrow.long())]
    assert both[0] == both[1]
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.299, got -1 at row 0"):
        gsc_loss(logits, torch.full((9,), -1, dtype=torch.int8), **rest)


@given(st.integers(0, 10_000))
def test_without_slope_it_is_plain_unimodal_cross_entropy(seed):
    logits, labels, rest = case(seed=seed)
    plain = sum(cross_entropy(z, labels) for z in logits.values())
    torch.testing.assert_close(gsc_loss(logits, labels, **rest, a=0, b=1), plain)


@given(st.integers(0, 10_000), st.floats(0.01, 4))
def test_it_is_linear_in_the_weights(seed, factor):
    logits, labels, rest = case(seed=seed)
    once = gsc_loss(logits, labels, **rest, a=0.6, b=0.2)
    torch.testing.assert_close(gsc_loss(logits, labels, **rest, a=0.6 * factor, b=0.2 * factor), factor * once)


@given(st.integers(0, 10_000), st.permutations(range(9)))
def test_order_of_samples_does_not_matter(seed, order):
    logits, labels, rest = case(seed=seed)
    permuted = {m: z[order] for m, z in logits.items()}
    again = gsc_loss(permuted, labels[order], fused_logits=rest["fused_logits"][order], qhat=rest["qhat"])
    torch.testing.assert_close(again, gsc_loss(logits, labels, **rest))


def test_the_three_calls_are_the_loss():
    logits, labels, rest = case()
    weights = {m: gsc_weights(rho, a=0.3, b=0.9) for m, rho in collaborative_reliability(logits, **rest).items()}
    assert weighted_cross_entropy(logits, labels, weights) == gsc_loss(logits, labels, **rest, a=0.3, b=0.9)


def test_nothing_flows_into_the_decision_or_the_weights():
    logits, labels, rest = case()
    rest["fused_logits"].requires_grad_()
    weights = {m: torch.ones(9, dtype=torch.float64, requires_grad=True) for m in logits}
    (gsc_loss(logits, labels, **rest) + weighted_cross_entropy(logits, labels, weights)).backward()
    assert rest["fused_logits"].grad is None
    assert all(w.grad is None for w in weights.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    logits, labels, rest = case(dtype=dtype)
    wide = {m: z.detach().float().requires_grad_() for m, z in logits.items()}
    loss = gsc_loss(logits, labels, **rest)
    torch.testing.assert_close(loss, gsc_loss(wide, labels, **rest))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(z.grad.dtype == dtype for z in logits.values())


@pytest.mark.newer_torch
def test_compiles_into_one_graph():
    compiled = torch.compile(gsc_loss, fullgraph=True)
    for seed in range(3):
        logits, labels, rest = case(seed=seed)
        got, expected = compiled(logits, labels, **rest), gsc_loss(logits, labels, **rest)
        torch.testing.assert_close(got, expected)
        inputs = list(logits.values())
        for g, e in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
            torch.testing.assert_close(g, e)


def test_the_watch_notices_a_host_sync(watch):
    x = torch.ones(2)
    for read in (lambda: x.sum().item(), lambda: bool(x.any()), x.nonzero, lambda: x[x > 0]):
        with pytest.raises(AssertionError, match="host sync"), watch():
            read()


def test_no_host_sync_and_no_loop_over_samples(watch):
    counts = []
    for batch, classes in ((4, 3), (64, 31)):
        logits, labels, rest = case(batch=batch, classes=classes)
        with watch() as operations:
            gsc_loss(logits, labels, **rest, check=False).backward()
        counts.append(operations.count)
    assert counts[0] == counts[1]


def test_nothing_is_read_or_moved_off_a_device():
    """Meta tensors have no values: ``.item()``, ``.cpu()``, ``bool()`` and indexing by a mask all raise on them."""
    logits, labels, rest = case(device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        logits["audio"].cpu()
    gsc_loss(logits, labels, **rest).backward()
    assert all(z.grad.is_meta for z in logits.values())


def test_checking_may_be_asked_for_or_not():
    logits, labels, rest = case()
    labels[3] = -100  # what torch.nn.functional.cross_entropy would ignore in silence
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4, got -100 at row 3"):
        gsc_loss(logits, labels, **rest)
    with pytest.raises(ValueError, match="labels must lie in"):
        gsc_loss(logits, labels, **rest, check=True)
    gsc_loss(logits, labels, **rest, check=False)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0], TypeError, r"labels must be an array \(numpy, torch or any array-API library\), got list"),
        (torch.zeros(9), TypeError, "labels must be of an integer dtype, got torch.float32"),
        (torch.zeros(9, 5).long(), ValueError, r"labels must have shape \(9,\), got \(9, 5\)"),
        (torch.full((9,), 5), ValueError, r"labels must lie in 0\.\.4, got 5 at row 0"),
    ],
)
def test_bad_labels_are_refused(labels, error, message):
    logits, _, rest = case()
    with pytest.raises(error, match=message):
        gsc_loss(logits, labels, **rest)


def test_bad_weights_are_refused():
    logits, labels, _ = case()
    with pytest.raises(ValueError, match=r"weights must hold every modality, got \['audio'\] without 'image'"):
        weighted_cross_entropy(logits, labels, {"audio": torch.ones(9)})
    with pytest.raises(ValueError, match=r"weights\['audio'\] must have shape \(9,\), got \(9, 1\)"):
        weighted_cross_entropy(logits, labels, {m: torch.ones(9, 1) for m in logits})


def test_import_brings_torch_and_the_core_only():
    code = """
import sys, torch
before = set(sys.modules)
import cpsc_gsc
tops = {m.split(".")[0] for m in set(sys.modules) - before}
print(*sorted(tops & {"torchvision", "scipy", "sklearn", "cpsc_rsc", "cpsc_train", "matplotlib", "pandas"}))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_mean_of_a_modality_is_over_the_samples_that_have_it():
    logits, labels, rest = case()
    mask = torch.arange(9) % 3 != 0
    got = gsc_loss(logits, labels, **rest, present={"image": mask})
    of = {m: gsc_weights(rho) * cross_entropy(logits[m], labels, reduction="none") for m, rho in _rho(logits, rest)}
    torch.testing.assert_close(got, of["audio"].mean() + of["image"][mask].mean())
    assert not torch.autograd.grad(got, logits["image"])[0][~mask].any()
    none = {m: torch.zeros(9, dtype=torch.bool) for m in logits}
    assert gsc_loss(logits, labels, **rest, present=none) == 0
    assert torch.equal(gsc_loss(logits, labels, **rest, present={}), gsc_loss(logits, labels, **rest))


def test_a_mask_that_does_not_fit_is_refused():
    logits, labels, rest = case()
    with pytest.raises(TypeError, match=r"present\['audio'\] must be a tensor of booleans, got torch.float32"):
        gsc_loss(logits, labels, **rest, present={"audio": torch.ones(9)})
    with pytest.raises(ValueError, match=r"present\['audio'\] must have shape \(9,\), got \(8,\)"):
        gsc_loss(logits, labels, **rest, present={"audio": torch.ones(8, dtype=torch.bool)})


def _rho(logits, rest):
    return collaborative_reliability(logits, **rest).items()
