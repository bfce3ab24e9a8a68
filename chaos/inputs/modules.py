"""Every function of cpsc-rsc and cpsc-gsc on tensors of any dtype, shape and value.

A call must give what plain double precision gives, or refuse in a TypeError or ValueError that names the argument; what
is valid must not be refused. Under two minutes, a few seconds with `--quick`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "packages/conformal-core/tests"))

import _draws as d
from _judging import Case, fuzz, valid_labels

import conformal_core
import cpsc_gsc
import cpsc_rsc
import reference

LOOSE = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}


def moderate(*tensors: d.Drawn) -> bool:
    """Whether values are such that no dtype overflows or loses them, so that figures can be compared."""
    return all(
        t.finite and (np.abs(t.held) < 100).all() and ((np.abs(t.held) > 1e-3) | (t.held == 0)).all() for t in tensors
    )


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(-1)


def a_divergence(draw: Any) -> Case:
    b, n, width = (draw(st.sampled_from([1, 2, 3, 5])) for _ in range(3))
    h, components = (
        d.numbers(draw, "torch", (b, width)),
        d.numbers(draw, "torch", draw(st.sampled_from([(b, n, width)] * 4 + [(b, width), (b, n, width + 1)]))),
    )
    kind = draw(st.sampled_from(["kl", "js", "js-reversed", "x"]))
    want, off = None, np.inf
    fit = h.floating and components.floating and components.held.shape == (b, n, width) and kind != "x"
    if fit:
        want = np.zeros(())
        if kind == "kl" and moderate(h, components):
            p, q = softmax(h.held), softmax(components.held)
            near = kl(p[:, None], q).mean(1)
            pairs = kl(q[:, :, None], q[:, None]).sum((1, 2)) / max(n * (n - 1), 1)
            want = np.asarray((0.8 * near - 0.2 * pairs).mean())
            off = max(LOOSE[h.dtype], LOOSE[components.dtype]) * (1 + abs(float(want)))
    return "h components divergence", lambda: cpsc_rsc.divergence_loss(h.array, components.array, kind=kind), want, off


def a_rating(draw: Any) -> Case:
    b, n, classes = (draw(st.sampled_from([0, 1, 2, 3, 5])) for _ in range(3))
    components = d.numbers(draw, "torch", draw(st.sampled_from([(b, n, classes)] * 5 + [(b, n), (b,)])))
    labels = d.labels(draw, "torch", draw(st.sampled_from([(b,)] * 5 + [(b, 1), ()])), classes)
    qhat = draw(
        st.sampled_from(
            [
                torch.tensor(0.5),
                torch.tensor(0.9),
                torch.tensor(float("inf")),
                torch.tensor(float("nan")),
                torch.tensor([0.5]),
                0.5,
                None,
            ]
        )
    )
    want = None
    right = (
        components.finite and valid_labels(labels, classes) and labels.held.shape == (b,) and components.held.ndim == 3
    )
    right = right and classes > 0 and isinstance(qhat, torch.Tensor) and qhat.ndim == 0 and not qhat.isnan()
    off = np.inf
    if right:
        want = np.zeros((b, n))
        with torch.no_grad():
            probs = components.array.to(torch.promote_types(components.array.dtype, torch.float32)).softmax(-1)
            scores = (1 - probs).double().numpy()
        q = float(qhat.to(probs.dtype))
        want = np.asarray(
            [
                [
                    float(reference.reliability(scores[i, j].tolist(), int(labels.held[i]), q, "normalized"))
                    for j in range(n)
                ]
                for i in range(b)
            ]
        ).reshape(b, n)
        off = 1e-5

    def call() -> torch.Tensor:
        head = torch.nn.Identity()
        return cpsc_rsc.component_reliability(components.array, labels.array, head=head, qhat=qhat)[0]

    return "components labels qhat head probs", call, want, off


def a_rating_of_targets(draw: Any) -> Case:
    b, n = (draw(st.sampled_from([0, 1, 2, 5])) for _ in range(2))
    wide = draw(st.booleans())
    columns = 2 if wide else 1
    components = d.numbers(draw, "torch", draw(st.sampled_from([(b, n, columns)] * 5 + [(b, n, 3), (b, n)])))
    targets = d.numbers(draw, "torch", draw(st.sampled_from([(b,)] * 5 + [(b, 1), ()])))
    qhat = draw(st.sampled_from([torch.tensor(0.5), torch.tensor(float("inf")), torch.tensor(float("nan")), 0.5, None]))
    right = components.finite and targets.finite and components.held.shape == (b, n, columns)
    right = right and targets.held.shape == (b,) and isinstance(qhat, torch.Tensor) and not qhat.isnan()

    def call() -> torch.Tensor:
        score = conformal_core.CQR() if wide else conformal_core.AbsoluteResidual()
        options = {"head": torch.nn.Identity(), "qhat": qhat, "score": score}
        reliability, _ = cpsc_rsc.component_reliability(components.array, targets.array, **options)
        assert ((reliability >= 0) & (reliability <= 1)).all(), f"{reliability} is no reliability"
        return reliability

    return "components labels qhat head predictions", call, np.zeros((b, n)) if right else None, np.inf


def a_selection(draw: Any) -> Case:
    b, n = draw(st.sampled_from([0, 1, 3])), draw(st.sampled_from([1, 2, 5]))
    reliability, score = (
        d.numbers(draw, "torch", (b, n), signed=False),
        d.numbers(draw, "torch", draw(st.sampled_from([(b, n)] * 5 + [(b, n + 1), (n,)])), signed=False),
    )
    k = draw(st.sampled_from([1, 2, n, 0, -1, n + 1, 1.5, None, True]))
    want = None
    if reliability.floating and score.floating and score.held.shape == (b, n) and type(k) is int and 1 <= k <= n:
        r, s = reliability.held, score.held
        want = np.asarray(
            [sorted(range(n), key=lambda j: (-r[i, j], s[i, j], j))[:k] for i in range(b)], dtype=float
        ).reshape(b, k)
        if np.isnan(r).any() or np.isnan(s).any():
            return "reliability score k", lambda: cpsc_rsc.top_k(reliability.array, score.array, k), want, np.inf
    return "reliability score k", lambda: cpsc_rsc.top_k(reliability.array, score.array, k), want, 0


def a_recomposition(draw: Any) -> Case:
    b, n, width = (draw(st.sampled_from([1, 2, 4])) for _ in range(3))
    components = d.numbers(draw, "torch", (b, n, width))
    selected = d.labels(draw, "torch", draw(st.sampled_from([(b, 2)] * 5 + [(b,), (b + 1, 2)])), n)
    weights = (
        d.numbers(draw, "torch", draw(st.sampled_from([(b, n)] * 5 + [(b, n + 1)])), signed=False)
        if draw(st.booleans())
        else None
    )
    right = components.floating and valid_labels(selected, n) and selected.held.shape == (b, 2)
    right = right and (weights is None or (weights.floating and weights.held.shape == (b, n)))
    want, off = None, np.inf
    if right:
        want = np.zeros((b, width))
        if moderate(components, *([] if weights is None else [weights])):
            index = selected.held.astype(int)
            kept = np.take_along_axis(components.held, index[..., None], 1)
            w = np.ones((b, 2)) if weights is None else np.take_along_axis(weights.held, index, 1)
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
    b, width, classes = (
        draw(st.sampled_from([1, 2, 5])),
        draw(st.sampled_from([1, 2, 8])),
        draw(st.sampled_from([2, 3])),
    )
    h, labels = (
        d.numbers(draw, "torch", draw(st.sampled_from([(b, width)] * 5 + [(b,), (b, width + 1)]))),
        d.labels(draw, "torch", (b,), classes),
    )
    rsc = cpsc_rsc.RepresentationSelfCalibration(width, components=4, top_k=2)
    head = torch.nn.Linear(width, classes)
    want = (
        np.zeros((b, width))
        if moderate(h) and h.dtype == "float32" and h.held.shape == (b, width) and valid_labels(labels, classes)
        else None
    )
    # A module has parameters of one dtype; torch itself says so for a feature of another.
    if (h.floating and h.dtype != "float32") or not h.finite or not moderate(h):
        rsc, head = rsc.to(h.array.dtype) if h.floating else rsc, head.to(h.array.dtype) if h.floating else head
        finite = h.finite and (np.abs(h.held) < 1e3).all()
        want = np.zeros((b, width)) if finite and h.held.shape == (b, width) and valid_labels(labels, classes) else None
        if not finite:
            return "h", lambda: 0.0, np.zeros(()), 0
    return "h labels", lambda: rsc(h.array, labels.array, head=head, qhat=torch.tensor(0.9)).recomposed, want, np.inf


def a_loss(draw: Any) -> Case:
    b, classes = draw(st.sampled_from([0, 1, 2, 5])), draw(st.sampled_from([0, 1, 2, 4]))
    of = (b, classes)
    one, two = (
        d.numbers(draw, "torch", of),
        d.numbers(draw, "torch", draw(st.sampled_from([of] * 5 + [(b, classes + 1), (b,)]))),
    )
    fused, labels = (
        d.numbers(draw, "torch", draw(st.sampled_from([of] * 5 + [(b + 1, classes)]))),
        d.labels(draw, "torch", (b,), classes),
    )
    two = d.Drawn("torch", two.held.real, one.dtype)
    qhat = {
        "a": torch.tensor(0.7),
        "b": draw(st.sampled_from([torch.tensor(0.9), torch.tensor(float("inf")), torch.tensor([0.5]), 0.5])),
    }
    a = draw(st.sampled_from([0.6, 0.0, -1.0, float("nan"), "x", True]))
    right = (
        min(of) > 0 and one.finite and two.finite and fused.finite and two.held.shape == of and fused.held.shape == of
    )
    right = (
        right
        and labels.dtype == "int64"
        and valid_labels(labels, classes)
        and isinstance(qhat["b"], torch.Tensor)
        and qhat["b"].ndim == 0
    )
    want = np.zeros(()) if right and isinstance(a, float) and a >= 0 else None
    off = np.inf
    if want is not None and moderate(one, two):
        total, y = 0.0, fused.array.argmax(-1).numpy()
        for logits, q in ((one, qhat["a"]), (two, qhat["b"])):
            probs = logits.array.to(torch.promote_types(logits.array.dtype, torch.float32)).softmax(-1)
            scores = (1 - probs).double().numpy()
            rho = np.asarray(
                [
                    float(reference.reliability(s.tolist(), int(c), float(q.to(probs.dtype)), "normalized"))
                    for s, c in zip(scores, y, strict=True)
                ]
            )
            entropy = -np.log(softmax(logits.held)[np.arange(b), labels.held.astype(int)])
            total += ((a * rho + 0.6) * entropy).mean()
        want, off = np.asarray(total), 1e-3 * (1 + abs(total))

    def call() -> torch.Tensor:
        return cpsc_gsc.gsc_loss(
            {"a": one.array, "b": two.array}, labels.array, fused_logits=fused.array, qhat=qhat, a=a
        )

    return "unimodal_logits labels fused_logits qhat a scores probs", call, want, off


def a_representation(draw: Any) -> Case:
    """Take the features themselves, of the modalities that are there."""
    b, width = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([2, 2, 2, 3]))
    h = d.numbers(draw, "torch", (b, width))
    name, mode = draw(st.sampled_from(["a", "a", "a", "b"])), draw(st.sampled_from(["features", "features", "x"]))
    rsc = cpsc_rsc.MultimodalSelfCalibration({"a": 2, "c": 3})
    want = h.held if h.floating and width == 2 and name == "a" and mode == "features" else None
    return "features mode", lambda: cpsc_rsc.represent(rsc, {name: h.array}, mode=mode)["a"], want, 0


def a_gate(draw: Any) -> Case:
    """Weigh by the inverse of the distance and of the deviation of the length; what is not a number has no weight."""
    b, width, name = (
        draw(st.sampled_from([1, 2, 5])),
        draw(st.sampled_from([2, 2, 2, 3])),
        draw(st.sampled_from("aaab")),
    )
    h = d.numbers(draw, "torch", (b, width))
    gate = cpsc_rsc.ConformalGate({"a": 2}, classes=1, alpha=0.25, distance="all")
    training, calibration = (torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) for n in (50, 9))
    gate.fit({"a": training}, torch.zeros(50, dtype=torch.long), {"a": calibration})

    def call() -> Any:
        weights, scaled = gate.weights({name: h.array})["a"], gate({name: h.array})["a"]
        assert scaled.isfinite().all(), "gave features that are not finite"
        return weights

    if not h.floating or width != 2 or name != "a":
        return "features", call, None, 0
    rows = training.double().numpy()
    covariance = np.cov(rows.T, bias=True)
    inverse = np.linalg.inv(covariance + 1e-3 * np.trace(covariance) / 2 * np.eye(2))

    def distance(x: np.ndarray) -> np.ndarray:
        return np.einsum("nd,de,ne->n", x - rows.mean(0), inverse, x - rows.mean(0))

    def logs(x: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(np.sqrt((x**2).sum(-1)), np.finfo(np.float32).tiny))

    def length_score(x: np.ndarray) -> np.ndarray:
        return (logs(x) - logs(rows).mean()) ** 2 / logs(rows).var()

    want = np.ones(b)
    with np.errstate(all="ignore"):
        for score in (distance, length_score):
            q = reference.quantile(score(calibration.double().numpy()).tolist(), 0.125)
            want = np.minimum(want, np.nan_to_num(q / score(h.held), nan=0.0, posinf=1.0))
    return "features", call, want, 1e-3


TARGETS = {
    "rsc divergence_loss": a_divergence,
    "rsc rate": a_rating,
    "rsc rate, regression": a_rating_of_targets,
    "rsc top_k": a_selection,
    "rsc recompose": a_recomposition,
    "rsc module": a_module,
    "rsc represent": a_representation,
    "rsc ConformalGate": a_gate,
    "gsc gsc_loss": a_loss,
}


if __name__ == "__main__":
    sys.exit(fuzz(__doc__, TARGETS, examples=3000))
