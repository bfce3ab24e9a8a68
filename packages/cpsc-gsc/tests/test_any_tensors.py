"""The loss of cpsc-gsc on tensors of any dtype, shape and value."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cpsc_gsc
import fuzzing as d
import reference
from fuzzing import Case, moderate, valid_labels


def a_loss(draw: Any) -> Case:
    b, classes = draw(st.sampled_from([0, 1, 2, 5])), draw(st.sampled_from([0, 1, 2, 4]))
    of = (b, classes)
    one = d.numbers(draw, "torch", of)
    two = d.numbers(draw, "torch", draw(st.sampled_from([of] * 5 + [(b, classes + 1), (b,)])))
    two = d.Drawn("torch", two.values.real, one.dtype)
    fused = d.numbers(draw, "torch", draw(st.sampled_from([of] * 5 + [(b + 1, classes)])))
    labels = d.labels(draw, "torch", (b,), classes)
    qhat = {"a": torch.tensor(0.7)}
    qhat["b"] = draw(st.sampled_from([torch.tensor(0.9), torch.tensor(float("inf")), torch.tensor([0.5]), 0.5]))
    a = draw(st.sampled_from([0.6, 0.0, -1.0, float("nan"), "x", True]))
    right = min(of) > 0 and all(x.finite and x.values.shape == of for x in (one, two, fused))
    right = right and valid_labels(labels, classes)
    right = right and isinstance(qhat["b"], torch.Tensor) and qhat["b"].ndim == 0 and isinstance(a, float) and a >= 0
    want, tolerance = np.zeros(()) if right else None, np.inf
    if right and moderate(one, two):
        want = np.asarray(sum(_term(logits, fused, labels, q, a) for logits, q in ((one, qhat["a"]), (two, qhat["b"]))))
        tolerance = 1e-3 * (1 + abs(float(want)))

    def call() -> torch.Tensor:
        logits = {"a": one.array, "b": two.array}
        return cpsc_gsc.gsc_loss(logits, labels.array, fused_logits=fused.array, qhat=qhat, a=a)

    return Case("unimodal_logits labels fused_logits qhat a scores probs", call, want, tolerance)


def _term(logits: d.Drawn, fused: d.Drawn, labels: d.Drawn, qhat: torch.Tensor, a: float) -> float:
    """Return the mean of (a · reliability + 0.6) · cross-entropy of a modality, from the reference."""
    probs = logits.array.to(torch.promote_types(logits.array.dtype, torch.float32)).softmax(-1)
    scores, q, predicted = (1 - probs).double().tolist(), float(qhat.to(probs.dtype)), fused.array.argmax(-1).tolist()
    pairs = zip(scores, predicted, strict=True)
    reliability = np.asarray([float(reference.reliability(row, label, q, "normalized")) for row, label in pairs])
    own = np.arange(len(scores)), labels.values.astype(int)
    shifted = logits.values - logits.values.max(-1, keepdims=True)
    entropy = np.log(np.exp(shifted).sum(-1)) - shifted[own]
    return float(((a * reliability + 0.6) * entropy).mean())


@pytest.mark.slow
@d.fuzz(300)
@given(data=st.data())
def test_a_loss_is_right_or_refused(data):
    d.check(a_loss, data)
