"""Functions of cpsc-rsc on tensors of any dtype, shape and value."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

import conformal_core
import cpsc_rsc
import fuzzing as d
import reference
from fuzzing import LOOSE, Case, moderate, valid_labels


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _mostly(draw: Any, usual: tuple[int, ...], *others: tuple[int, ...]) -> tuple[int, ...]:
    """Draw a shape, five times in six the usual one."""
    return draw(st.sampled_from([usual] * 5 + list(others)))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(-1)


def a_divergence(draw: Any) -> Case:
    b, n, width = (draw(st.sampled_from([1, 2, 3, 5])) for _ in range(3))
    h = d.numbers(draw, "torch", (b, width))
    components = d.numbers(draw, "torch", _mostly(draw, (b, n, width), (b, width), (b, n, width + 1)))
    kind = draw(st.sampled_from(["kl", "js", "js-reversed", "x"]))
    want, tolerance = None, np.inf
    if h.floating and components.floating and components.values.shape == (b, n, width) and kind != "x":
        want = np.zeros(())
        if kind == "kl" and moderate(h, components):
            p, q = softmax(h.values), softmax(components.values)
            near = kl(p[:, None], q).mean(1)
            pairs = kl(q[:, :, None], q[:, None]).sum((1, 2)) / max(n * (n - 1), 1)
            want = np.asarray((0.8 * near - 0.2 * pairs).mean())
            tolerance = max(LOOSE[h.dtype], LOOSE[components.dtype]) * (1 + abs(float(want)))
    call = lambda: cpsc_rsc.divergence_loss(h.array, components.array, kind=kind)  # noqa: E731
    return Case("h components divergence", call, want, tolerance)


def a_rating(draw: Any) -> Case:
    b, n, classes = (draw(st.sampled_from([0, 1, 2, 3, 5])) for _ in range(3))
    components = d.numbers(draw, "torch", _mostly(draw, (b, n, classes), (b, n), (b,)))
    labels = d.labels(draw, "torch", _mostly(draw, (b,), (b, 1), ()), classes)
    qhat = draw(st.sampled_from([*map(torch.tensor, (0.5, 0.9, float("inf"), float("nan"), [0.5])), 0.5, None]))
    right = components.finite and components.values.ndim == 3 and classes > 0
    right = right and valid_labels(labels, classes) and labels.values.shape == (b,)
    right = right and isinstance(qhat, torch.Tensor) and qhat.ndim == 0 and not qhat.isnan()
    want = _reliability(components, labels, qhat) if right else None

    def call() -> torch.Tensor:
        head = torch.nn.Identity()
        return cpsc_rsc.component_reliability(components.array, labels.array, head=head, qhat=qhat)[0]

    return Case("components labels qhat head probs", call, want, 1e-5)


def _reliability(components: d.Drawn, labels: d.Drawn, qhat: torch.Tensor) -> np.ndarray:
    """Return the reliability of each component, from the reference."""
    probs = components.array.to(torch.promote_types(components.array.dtype, torch.float32)).softmax(-1)
    scores, q = (1 - probs).double().numpy(), float(qhat.to(probs.dtype))
    pairs = [(row, int(label)) for rows, label in zip(scores, labels.values, strict=True) for row in rows.tolist()]
    rated = [float(reference.reliability(row, label, q, "normalized")) for row, label in pairs]
    return np.asarray(rated).reshape(scores.shape[:2])


def a_rating_of_targets(draw: Any) -> Case:
    b, n = (draw(st.sampled_from([0, 1, 2, 5])) for _ in range(2))
    wide = draw(st.booleans())
    columns = 2 if wide else 1
    components = d.numbers(draw, "torch", _mostly(draw, (b, n, columns), (b, n, 3), (b, n)))
    targets = d.numbers(draw, "torch", _mostly(draw, (b,), (b, 1), ()))
    qhat = draw(st.sampled_from([torch.tensor(0.5), torch.tensor(float("inf")), torch.tensor(float("nan")), 0.5, None]))
    right = components.finite and targets.finite and components.values.shape == (b, n, columns)
    right = right and targets.values.shape == (b,) and isinstance(qhat, torch.Tensor) and not qhat.isnan()

    def call() -> torch.Tensor:
        score = conformal_core.CQR() if wide else conformal_core.AbsoluteResidual()
        options = {"head": torch.nn.Identity(), "qhat": qhat, "score": score}
        reliability, _ = cpsc_rsc.component_reliability(components.array, targets.array, **options)
        assert ((reliability >= 0) & (reliability <= 1)).all()
        return reliability

    return Case("components labels qhat head predictions", call, np.zeros((b, n)) if right else None, np.inf)


def a_selection(draw: Any) -> Case:
    b, n = draw(st.sampled_from([0, 1, 3])), draw(st.sampled_from([1, 2, 5]))
    reliability, score = (
        d.numbers(draw, "torch", (b, n), signed=False),
        d.numbers(draw, "torch", _mostly(draw, (b, n), (b, n + 1), (n,)), signed=False),
    )
    k = draw(st.sampled_from([1, 2, n, 0, -1, n + 1, 1.5, None, True]))
    want = None
    if reliability.floating and score.floating and score.values.shape == (b, n) and type(k) is int and 1 <= k <= n:
        r, s = reliability.values, score.values
        want = np.asarray(
            [sorted(range(n), key=lambda j: (-r[i, j], s[i, j], j))[:k] for i in range(b)], dtype=float
        ).reshape(b, k)
        if np.isnan(r).any() or np.isnan(s).any():
            return Case("reliability score k", lambda: cpsc_rsc.top_k(reliability.array, score.array, k), want, np.inf)
    return Case("reliability score k", lambda: cpsc_rsc.top_k(reliability.array, score.array, k), want, 0)


def a_recomposition(draw: Any) -> Case:
    b, n, width = (draw(st.sampled_from([1, 2, 4])) for _ in range(3))
    components = d.numbers(draw, "torch", (b, n, width))
    selected = d.labels(draw, "torch", _mostly(draw, (b, 2), (b,), (b + 1, 2)), n)
    weights = d.numbers(draw, "torch", _mostly(draw, (b, n), (b, n + 1)), signed=False) if draw(st.booleans()) else None
    right = components.floating and valid_labels(selected, n) and selected.values.shape == (b, 2)
    right = right and (weights is None or (weights.floating and weights.values.shape == (b, n)))
    want, off = None, np.inf
    if right:
        want = np.zeros((b, width))
        if moderate(components, *([] if weights is None else [weights])):
            index = selected.values.astype(int)
            kept = np.take_along_axis(components.values, index[..., None], 1)
            w = np.ones((b, 2)) if weights is None else np.take_along_axis(weights.values, index, 1)
            w = np.where(w.sum(-1, keepdims=True) > 0, w, 1.0)
            want = (w[..., None] * kept).sum(1) / w.sum(-1)[:, None]
            off = LOOSE[components.dtype] * 10 + (0 if weights is None else LOOSE[weights.dtype] * 10)
    more = () if weights is None else (weights.array,)
    return (
        "components selected reliability",
        lambda: cpsc_rsc.recompose(components.array, selected.array, *more),
        want,
        off,
    )


def a_module(draw: Any) -> Case:
    b, width = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([1, 2, 8]))
    classes = draw(st.sampled_from([2, 3]))
    h = d.numbers(draw, "torch", _mostly(draw, (b, width), (b,), (b, width + 1)))
    labels = d.labels(draw, "torch", (b,), classes)
    rsc, head = cpsc_rsc.RepresentationSelfCalibration(width, components=4, top_k=2), torch.nn.Linear(width, classes)
    if h.floating:  # the parameters have one dtype, and torch refuses a feature of another
        rsc, head = rsc.to(h.array.dtype), head.to(h.array.dtype)
    if not h.finite or (np.abs(h.values) >= 1e3).any():  # features are not checked
        return Case("h", lambda: 0.0, np.zeros(()), 0)
    want = np.zeros((b, width)) if h.values.shape == (b, width) and valid_labels(labels, classes) else None
    call = lambda: rsc(h.array, labels.array, head=head, qhat=torch.tensor(0.9)).recomposed  # noqa: E731
    return Case("h labels", call, want, np.inf)


def a_representation(draw: Any) -> Case:
    """Take the features themselves, of the modalities that are there."""
    b, width = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([2, 2, 2, 3]))
    h = d.numbers(draw, "torch", (b, width))
    name, mode = draw(st.sampled_from(["a", "a", "a", "b"])), draw(st.sampled_from(["features", "features", "x"]))
    rsc = cpsc_rsc.MultimodalSelfCalibration({"a": 2, "c": 3})
    want = h.values if h.floating and width == 2 and name == "a" and mode == "features" else None
    return Case("features mode", lambda: cpsc_rsc.represent(rsc, {name: h.array}, mode=mode)["a"], want, 0)


def a_trust(draw: Any) -> Case:
    """Trust activations by their distance at one depth, above or below; what is not a number has none."""
    b, width = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([2, 2, 2, 3]))
    name, slope = draw(st.sampled_from("aaab")), 1.5
    h = d.numbers(draw, "torch", (b, width))
    trust = cpsc_rsc.ConformalTrust({"a": (2,)}, alpha=0.25)
    training, held_out = (torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) for n in (50, 9))
    trust.update({"a": (training,)})
    trust.calibrate({"a": (held_out,)})
    trust._of["a"].slope.fill_(slope)
    trust._of["a"].offset.fill_(0.5)
    call = lambda: trust.trust(trust.distances({name: (h.array,)}))["a"]  # noqa: E731
    if not h.floating or width != 2 or name != "a":
        return Case("depths", call, None, 0)
    fitted = LedoitWolf().fit(training.double().numpy())
    scores = fitted.mahalanobis(held_out.double().numpy())
    high, low = reference.quantile(scores.tolist(), 0.125), -reference.quantile((-scores).tolist(), 0.125)
    with np.errstate(all="ignore"):
        x = h.values - fitted.location_
        score = np.einsum("nd,de,ne->n", x, fitted.precision_, x)
        far = np.maximum(np.maximum(np.log(score / high), np.log(low / score)), 0)
        far = np.where(np.isfinite(h.values).all(1), far, np.inf)
        want = (1 + np.exp(-0.5)) / (1 + np.exp(slope * far - 0.5))
    return Case("depths", call, want, 1e-3)


TARGETS = {
    "divergence_loss": a_divergence,
    "component_reliability": a_rating,
    "component_reliability, regression": a_rating_of_targets,
    "top_k": a_selection,
    "recompose": a_recomposition,
    "module": a_module,
    "represent": a_representation,
    "ConformalTrust": a_trust,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@d.fuzz(300)
@given(data=st.data())
def test_a_call_is_right_or_refused(name, data):
    d.check(TARGETS[name], data)
