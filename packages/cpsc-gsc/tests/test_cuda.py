"""On a GPU: the same numbers as on the host, and no step that waits for the device. Skipped without one."""

import contextlib
import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from conformal_core import AbsoluteResidual
from cpsc_gsc import GradientSelfCalibration, gsc_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@contextlib.contextmanager
def waits_forbidden():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def moved(batch):
    labels, qhat = batch.labels.cuda(), batch.qhat
    qhat = {m: torch.as_tensor(q).cuda() for m, q in qhat.items()} if isinstance(qhat, dict) else qhat
    return type(batch)({m: x.cuda() for m, x in batch.inputs.items()}, labels, qhat)


def test_the_loss_has_the_gradients_of_the_host(model, batches):
    batch = batches[0]
    other = copy.deepcopy(model).cuda()
    unimodal, fused = model(batch.inputs)
    gsc_loss(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat).backward()
    batch = moved(batch)
    torch.cuda.synchronize()
    with waits_forbidden():
        unimodal, fused = other(batch.inputs)
        gsc_loss(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat).backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q.grad.cpu(), p.grad)


def test_targets_have_the_gradients_of_the_host():
    said = {m: torch.randn(9, 1) for m in ("audio", "image")}
    y, gradients = torch.randn(9), []
    for device in ("cpu", "cuda"):
        outputs = {m: x.to(device, copy=True).requires_grad_() for m, x in said.items()}
        qhat, target = {m: torch.tensor(0.8, device=device) for m in said}, y.to(device)
        fused = sum(outputs.values()) / 2
        torch.cuda.synchronize()
        with waits_forbidden() if device == "cuda" else contextlib.nullcontext():
            options = {"score": AbsoluteResidual(), "loss": partial(mse_loss, reduction="none"), "check": False}
            gsc_loss(outputs, target, fused_logits=fused, qhat=qhat, **options).backward()
        gradients.append([x.grad.cpu() for x in outputs.values()])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("fused", [False, True])
def test_the_hook_steps_without_a_wait(model, batches, fused):
    here, there = model, copy.deepcopy(model).cuda()
    for trained, move in ((here, lambda batch: batch), (there, moved)):
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2, fused=fused)
        with GradientSelfCalibration(encoders=trained.encoders).attach(optimizer) as gsc:
            for batch in map(move, batches):
                watch = waits_forbidden() if trained is there else contextlib.nullcontext()
                with watch:
                    unimodal, logits = trained(batch.inputs)
                    gsc.observe(unimodal, batch.labels, fused_logits=logits, qhat=batch.qhat)
                    optimizer.zero_grad()
                    cross_entropy(logits, batch.labels).backward()
                    optimizer.step()
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(q.cpu(), p, rtol=1e-4, atol=1e-5)
