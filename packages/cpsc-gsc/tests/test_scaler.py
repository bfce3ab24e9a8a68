"""The hook beside torch.amp.GradScaler: same training as the loss, whole steps skipped, nothing left over."""

import copy

import pytest
import torch
from torch import optim
from torch.amp import GradScaler
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from cpsc_gsc import GradientSelfCalibration, gsc_loss

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd-fused": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adam-fused": lambda p: optim.Adam(p, lr=0.01, fused=True),
    "adamw-fused": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "adagrad-fused": lambda p: optim.Adagrad(p, lr=0.05, fused=True),
}
INFINITE = {4, 9}


def make_scaler(**options):
    return GradScaler("cpu", init_scale=512.0, growth_interval=3, **options)


def train(model, optimizer, batches, *, hooked, scaler, clip=None, mode="add", pieces=1):
    gsc = GradientSelfCalibration(encoders=model.encoders, mode=mode).attach(optimizer, scaler=scaler)
    scales = []
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        size = len(batch) // pieces
        for i in range(pieces):
            piece = batch.rows(slice(i * size, (i + 1) * size))
            unimodal, fused = model(piece.inputs)
            loss = cross_entropy(fused, piece.labels) * (torch.inf if step in INFINITE else 1)
            known = {"fused_logits": fused, "qhat": piece.qhat}
            if hooked:
                gsc.observe(unimodal, piece.labels, **known)
            elif mode == "add":
                loss = loss + gsc_loss(unimodal, piece.labels, **known)
            scaler.scale(loss / pieces).backward()
        gsc.apply()
        if clip is not None:
            scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    gsc.remove()
    return scales


def assert_same(model, other):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("pieces", [1, 3])
def test_hook_equals_loss_and_skips_the_same_steps(model, batches, name, clip, pieces):
    by_loss, by_hook = copy.deepcopy(model), copy.deepcopy(model)
    scales = [
        train(m, OPTIMIZERS[name](m.parameters()), batches, hooked=h, scaler=make_scaler(), clip=clip, pieces=pieces)
        for m, h in ((by_loss, False), (by_hook, True))
    ]
    assert scales[0] == scales[1]
    assert any(later < earlier for earlier, later in zip(scales[0], scales[0][1:], strict=False))
    assert_same(by_loss, by_hook)


@pytest.mark.parametrize("name", ["sgd", "sgd-fused"])
def test_a_skipped_step_takes_its_factor_with_it(model, batches, name):
    """Skipped batches leave no trace in the scaled variant either: training without them gives the same model."""
    expected = copy.deepcopy(model)
    kept = [batch for step, batch in enumerate(batches) if step not in INFINITE]
    optimizer = OPTIMIZERS[name](expected.parameters())
    gsc = GradientSelfCalibration(encoders=expected.encoders, mode="scale").attach(optimizer)
    for batch in kept:
        unimodal, fused = expected(batch.inputs)
        gsc.observe(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)
        optimizer.zero_grad()
        cross_entropy(fused, batch.labels).backward()
        optimizer.step()
    train(model, OPTIMIZERS[name](model.parameters()), batches, hooked=True, scaler=make_scaler(), mode="scale")
    assert_same(model, expected)


@pytest.mark.parametrize("name", ["adam", "adam-fused"])
def test_an_overflow_of_the_added_gradient_alone_skips_the_step_and_lowers_the_scale(model, batches, name):
    scaler, optimizer, batch = make_scaler(), OPTIMIZERS[name](model.parameters()), batches[0]
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer, scaler=scaler)
    before = copy.deepcopy(model)
    unimodal, fused = model(batch.inputs)
    unimodal["audio"].register_hook(lambda gradient: gradient * torch.inf)
    gsc.observe(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)
    scaler.scale(cross_entropy(fused, batch.labels)).backward()
    gsc.apply()
    scaler.step(optimizer)
    scaler.update()
    assert_same(model, before)
    assert scaler.get_scale() == 256


def test_small_gradients_survive_half_precision(batches):
    """The scale goes through the half-precision part of the backward pass, where it is needed."""
    scaler = GradScaler("cpu", init_scale=2.0**20)
    encoder = torch.nn.Linear(4, 3)
    optimizer = optim.SGD(encoder.parameters(), lr=1.0)
    gsc = GradientSelfCalibration(encoders={"m": encoder}, a=0, b=1e-9).attach(optimizer, scaler=scaler)
    x, labels = torch.ones(2, 4), torch.tensor([0, 2])
    with torch.autocast("cpu", dtype=torch.float16):
        logits = encoder(x)
    assert logits.dtype == torch.float16
    gsc.observe({"m": logits}, labels, fused_logits=logits, qhat={"m": torch.tensor(0.9)})
    scaler.scale(logits.float().sum() * 0).backward()
    gsc.apply()
    expected = 1e-9 * (logits.float().softmax(-1).mean(0) - torch.tensor([0.5, 0, 0.5])).detach()
    scaler.unscale_(optimizer)
    torch.testing.assert_close(encoder.bias.grad, expected, rtol=1e-2, atol=0)


def observed(model, batch, optimizer, **attach):
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer, **attach)
    unimodal, fused = model(batch.inputs)
    gsc.observe(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)
    return gsc, fused


@pytest.mark.parametrize("name", ["sgd", "sgd-fused"])
def test_a_step_without_apply_is_an_error(model, batches, name):
    scaler, optimizer = make_scaler(), OPTIMIZERS[name](model.parameters())
    _, fused = observed(model, batches[0], optimizer, scaler=scaler)
    scaler.scale(fused.sum()).backward()
    with pytest.raises(RuntimeError, match=r"apply must be called after backward and before scaler.unscale_"):
        scaler.step(optimizer)


def test_apply_after_unscale_is_an_error(model, batches):
    scaler, optimizer = make_scaler(), OPTIMIZERS["sgd"](model.parameters())
    gsc, fused = observed(model, batches[0], optimizer, scaler=scaler)
    scaler.scale(fused.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"apply must come before scaler.unscale_"):
        gsc.apply()


def test_a_scaler_that_was_not_given_is_noticed_by_a_fused_optimizer(model, batches):
    scaler, optimizer = make_scaler(), OPTIMIZERS["sgd-fused"](model.parameters())
    _, fused = observed(model, batches[0], optimizer)
    scaler.scale(fused.sum()).backward()
    with pytest.raises(RuntimeError, match="attach must be given the scaler"):
        scaler.step(optimizer)


def test_a_disabled_scaler_is_none(model, batches):
    expected = copy.deepcopy(model)
    finite = [batch for step, batch in enumerate(batches) if step not in INFINITE][:4]
    for candidate, hooked in ((expected, False), (model, True)):
        optimizer = OPTIMIZERS["adam"](candidate.parameters())
        train(candidate, optimizer, finite, hooked=hooked, scaler=make_scaler(enabled=False))
    assert_same(model, expected)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    _, fused = observed(model, batches[0], optimizer, scaler=make_scaler(enabled=False))
    fused.sum().backward()
    optimizer.step()  # no apply needed
