import copy
import itertools
import pickle

import pytest
import torch
from torch import nn, optim
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from cpsc_gsc import GradientSelfCalibration, collaborative_reliability, gsc_loss

OPTIMIZERS = {
    "sgd": lambda p, **kw: optim.SGD(p, lr=0.1, **kw),
    "sgd-momentum": lambda p, **kw: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2, **kw),
    "adam": lambda p, **kw: optim.Adam(p, lr=0.01, **kw),
    "adamw": lambda p, **kw: optim.AdamW(p, lr=0.01, weight_decay=0.1, **kw),
    "adagrad": lambda p, **kw: optim.Adagrad(p, lr=0.05, **kw),
}
IMPLEMENTATIONS = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def groups(model):
    return [
        {"params": model.encoders.parameters()},
        {"params": [*model.heads.parameters(), *model.fusion.parameters()], "lr": 0.02, "weight_decay": 1e-3},
    ]


def observe(gsc, model, batch):
    unimodal, fused = model(batch.inputs)
    gsc.observe(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)
    return unimodal, fused


def train_with_loss(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        unimodal, fused = model(batch.inputs)
        loss = cross_entropy(fused, batch.labels)
        (loss + gsc_loss(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)).backward()
        optimizer.step()


def train_with_hook(model, optimizer, batches, **options):
    with GradientSelfCalibration(encoders=model.encoders, **options).attach(optimizer) as gsc:
        for batch in batches:
            _, fused = observe(gsc, model, batch)
            optimizer.zero_grad()
            cross_entropy(fused, batch.labels).backward()
            optimizer.step()


def train_by_hand(model, optimizer, batches):
    """Take the gradient of every sample by torch.func, weigh it, and add the mean to that of the loop's loss."""

    def unimodal_loss(parameters, modality, x, label):
        unimodal, _ = functional_call(model, parameters, ({m: v[None] for m, v in x.items()},))
        return cross_entropy(unimodal[modality], label[None])

    per_sample = vmap(grad(unimodal_loss), in_dims=(None, None, 0, 0))
    for batch in batches:
        unimodal, fused = model(batch.inputs)
        optimizer.zero_grad()
        cross_entropy(fused, batch.labels).backward()
        rho = collaborative_reliability(unimodal, fused_logits=fused, qhat=batch.qhat)
        for modality in batch.inputs:
            weights = 0.6 * rho[modality] + 0.6
            gradients = per_sample(dict(model.named_parameters()), modality, batch.inputs, batch.labels)
            for name, parameter in model.named_parameters():
                added = torch.einsum("b,b...->...", weights, gradients[name]) / len(batch)
                parameter.grad = added if parameter.grad is None else parameter.grad + added
        optimizer.step()


def assert_same(model, other, tolerance=1e-9):
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("name", "implementation", "layout"),
    [
        *itertools.product(OPTIMIZERS, IMPLEMENTATIONS, ["flat"]),
        *itertools.product(OPTIMIZERS, ["foreach"], ["groups"]),
    ],
)
def test_loss_and_hook_and_per_sample_gradients_train_the_same_model(model, batches, name, implementation, layout):
    trained = []
    for train in (train_with_loss, train_with_hook, train_by_hand):
        candidate = copy.deepcopy(model)
        parameters = candidate.parameters() if layout == "flat" else groups(candidate)
        train(candidate, OPTIMIZERS[name](parameters, **IMPLEMENTATIONS[implementation]), batches)
        trained.append(candidate)
    assert not torch.allclose(trained[0].heads["audio"].weight, model.heads["audio"].weight)
    assert_same(trained[0], trained[1])
    assert_same(trained[0], trained[2])


def test_accumulated_micro_batches_of_any_size_are_one_batch(model, batches):
    whole, pieces = copy.deepcopy(model), copy.deepcopy(model)
    train_with_loss(whole, optim.Adam(whole.parameters(), lr=0.01), batches)
    optimizer = optim.Adam(pieces.parameters(), lr=0.01)
    gsc = GradientSelfCalibration(encoders=pieces.encoders).attach(optimizer)
    for batch in batches:
        for rows in (slice(0, 7), slice(7, 8), slice(8, 12)):
            piece = batch.rows(rows)
            _, fused = observe(gsc, pieces, piece)
            (cross_entropy(fused, piece.labels) * len(piece) / len(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_same(whole, pieces)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("when", ["before-forward", "before-backward", "after-step"])
def test_gradients_may_be_zeroed_anywhere(model, batches, set_to_none, when):
    expected = copy.deepcopy(model)
    # Heads get zeros rather than None with set_to_none=False; without decay or momentum that is the same to SGD.
    train_with_loss(expected, optim.SGD(expected.parameters(), lr=0.1), batches)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    for batch in batches:
        if when == "before-forward":
            optimizer.zero_grad(set_to_none=set_to_none)
        _, fused = observe(gsc, model, batch)
        if when == "before-backward":
            optimizer.zero_grad(set_to_none=set_to_none)
        cross_entropy(fused, batch.labels).backward()
        optimizer.step()
        if when == "after-step":
            optimizer.zero_grad(set_to_none=set_to_none)
    assert_same(model, expected)


def test_clipping_after_apply_sees_the_whole_gradient(model, batches):
    by_loss, by_hook = copy.deepcopy(model), copy.deepcopy(model)
    for candidate, hooked in ((by_loss, False), (by_hook, True)):
        optimizer = optim.SGD(candidate.parameters(), lr=0.1)
        gsc = GradientSelfCalibration(encoders=candidate.encoders).attach(optimizer)
        for batch in batches:
            optimizer.zero_grad()
            unimodal, fused = candidate(batch.inputs)
            known = {"fused_logits": fused, "qhat": batch.qhat}
            loss = cross_entropy(fused, batch.labels)
            if hooked:
                gsc.observe(unimodal, batch.labels, **known)
            else:
                loss = loss + gsc_loss(unimodal, batch.labels, **known)
            loss.backward()
            gsc.apply()
            clip_grad_norm_(candidate.parameters(), 0.5)
            optimizer.step()
    assert_same(by_loss, by_hook)


def test_clipping_without_apply_leaves_the_added_gradient_alone(model, batches):
    batch = batches[0]
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    before = copy.deepcopy(model)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    _, fused = observe(gsc, model, batch)
    cross_entropy(fused, batch.labels).backward()
    clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()

    own = optim.SGD(before.parameters(), lr=1.0)
    unimodal, fused = before(batch.inputs)
    added = torch.autograd.grad(
        gsc_loss(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat),
        list(before.parameters()),
        retain_graph=True,
        allow_unused=True,
    )
    cross_entropy(fused, batch.labels).backward()
    clip_grad_norm_(before.parameters(), 1e-3)
    for p, g in zip(before.parameters(), added, strict=True):
        if g is not None:
            p.grad = g if p.grad is None else p.grad + g
    own.step()
    assert_same(model, before, 1e-12)


def test_frozen_parameters_stay(model, batches):
    model.encoders["audio"].requires_grad_(requires_grad=False)
    frozen, expected = copy.deepcopy(model.encoders["audio"]), copy.deepcopy(model)
    train_with_loss(expected, optim.SGD(expected.parameters(), lr=0.1), batches)
    train_with_hook(model, optim.SGD(model.parameters(), lr=0.1), batches)
    assert_same(model, expected)
    assert_same(model.encoders["audio"], frozen, 0)


def test_a_parameter_frozen_after_it_was_observed_stays(model, batches):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    before = copy.deepcopy(model)
    observe(gsc, model, batches[0])
    model.heads["audio"].requires_grad_(requires_grad=False)
    optimizer.step()
    assert_same(model.heads["audio"], before.heads["audio"], 0)
    assert not torch.equal(model.heads["image"].weight, before.heads["image"].weight)


class Shared(nn.Module):
    """One encoder for both modalities, used twice in a forward pass."""

    def __init__(self):
        super().__init__()
        encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.encoders = nn.ModuleDict({"audio": encoder, "image": encoder})
        self.head = nn.Linear(8, 4)

    def forward(self, inputs):
        x = {"audio": inputs["audio"], "image": inputs["audio"].flip(-1)}
        unimodal = {m: self.head(self.encoders[m](v)) for m, v in x.items()}
        return unimodal, unimodal["audio"] + unimodal["image"]


def test_a_shared_encoder_gets_the_sum(batches):
    torch.manual_seed(0)
    model = Shared().double()
    expected = copy.deepcopy(model)
    train_with_loss(expected, optim.AdamW(expected.parameters(), lr=0.01), batches)
    train_with_hook(model, optim.AdamW(model.parameters(), lr=0.01), batches)
    assert_same(model, expected)


def test_one_gradient_tensor_handed_out_for_two_parameters_is_not_written_twice():
    """Autograd gives both terms of a sum the same tensor."""
    terms = nn.ParameterList([nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 3))])
    optimizer = optim.SGD(terms.parameters(), lr=1.0)
    gsc = GradientSelfCalibration(encoders={"m": terms}, a=0, b=1).attach(optimizer)
    for _ in range(2):  # the second is accumulated onto the first
        z = terms[0] + terms[1]
        gsc.observe({"m": z}, torch.tensor([0, 1]), fused_logits=z, qhat={"m": torch.tensor(0.9)})
    optimizer.step()
    expected = (torch.eye(3)[[0, 1]] - 1 / 3) / 2
    torch.testing.assert_close(terms[0].detach(), expected)
    torch.testing.assert_close(terms[1].detach(), expected)


def test_a_parameter_that_first_gets_a_gradient_in_a_later_micro_batch_counts_zero_before():
    first, later = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizer = optim.SGD([first, later], lr=1.0)
    encoders = {"m": nn.ParameterList([first, later])}
    gsc = GradientSelfCalibration(encoders=encoders, a=0, b=1).attach(optimizer)
    labels = torch.tensor([0, 1, 2, 0, 0, 1])
    for rows, z in ((slice(0, 2), first.expand(2, 3)), (slice(2, 6), (first + later).expand(4, 3))):
        gsc.observe({"m": z}, labels[rows], fused_logits=z, qhat={"m": torch.tensor(0.9)})
    optimizer.step()
    of_sample = torch.eye(3)[labels] - 1 / 3
    torch.testing.assert_close(first.detach(), of_sample.sum(0) / 6)
    torch.testing.assert_close(later.detach(), of_sample[2:].sum(0) / 6)


def test_a_group_that_is_added_later_is_calibrated(model, batches):
    expected = copy.deepcopy(model)
    models = []
    for candidate, train in ((expected, train_with_loss), (model, None)):
        optimizer = optim.Adam([*candidate.encoders.parameters(), *candidate.fusion.parameters()], lr=0.01)
        if train:
            optimizer.add_param_group({"params": candidate.heads.parameters()})
            train(candidate, optimizer, batches)
        else:
            gsc = GradientSelfCalibration(encoders=candidate.encoders).attach(optimizer)
            optimizer.add_param_group({"params": candidate.heads.parameters()})
            for batch in batches:
                _, fused = observe(gsc, candidate, batch)
                optimizer.zero_grad()
                cross_entropy(fused, batch.labels).backward()
                optimizer.step()
        models.append(candidate)
    assert_same(*models)


@pytest.mark.parametrize("as_keyword", [True, False])
def test_a_closure_is_followed_to_its_end(model, batches, as_keyword):
    """Trainers that hand forward and backward to ``step(closure)`` observe while the step is running."""
    expected = copy.deepcopy(model)
    train_with_loss(expected, optim.Adam(expected.parameters(), lr=0.01), batches)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    for batch in batches:

        def closure(batch=batch):
            optimizer.zero_grad()
            _, fused = observe(gsc, model, batch)
            loss = cross_entropy(fused, batch.labels)
            loss.backward()
            return loss

        loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
        assert loss.ndim == 0
    assert_same(model, expected)


def test_a_learning_rate_scheduler_may_wrap_the_step(model, batches):
    expected = copy.deepcopy(model)
    for candidate, train in ((expected, train_with_loss), (model, train_with_hook)):
        optimizer = optim.SGD(candidate.parameters(), lr=0.1)
        scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        for batch in batches[:6]:
            train(candidate, optimizer, [batch])
            scheduler.step()
    assert_same(model, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.newer_torch
def test_a_compiled_model(model, batches):
    expected = copy.deepcopy(model)
    train_with_loss(expected, optim.SGD(expected.parameters(), lr=0.1), batches[:4])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    # The graph is walked twice, so its buffers may not be given away after the first walk.
    with torch._functorch.config.patch(donated_buffer=False):
        compiled = torch.compile(model, fullgraph=True)
        gsc.pause()
        compiled(batches[0].inputs)[1].sum().backward()  # compiles a backward pass that is walked once
        gsc.resume()
        for batch in batches[:4]:
            _, fused = observe(gsc, compiled, batch)
            optimizer.zero_grad()
            cross_entropy(fused, batch.labels).backward()
            optimizer.step()
    assert_same(model, expected)


def test_nothing_is_read_off_a_device(batches):
    """On meta tensors whatever needs a value raises."""
    model = Shared().to("meta")
    for mode in ("add", "scale"):
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with GradientSelfCalibration(encoders=model.encoders, mode=mode).attach(optimizer) as gsc:
            for _ in range(2):
                unimodal, fused = model({"audio": torch.empty(4, 6, device="meta")})
                labels = torch.empty(4, dtype=torch.int64, device="meta")
                rho = gsc.observe(
                    unimodal, labels, fused_logits=fused, qhat={m: torch.empty((), device="meta") for m in unimodal}
                )
                fused.sum().backward()
                optimizer.step()
            assert all(r.shape == (4,) for r in rho.values())


def test_scaling_multiplies_the_encoders_by_one_factor_a_step(model, batches):
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    gsc = GradientSelfCalibration(encoders=model.encoders, mode="scale", a=0.6, b=0.5).attach(optimizer)
    for batch in batches[:5]:
        before = copy.deepcopy(model)
        rhos = []
        for rows in (slice(0, 9), slice(9, 12)):  # unequal micro-batches: each sample counts once
            piece = batch.rows(rows)
            unimodal, fused = model(piece.inputs)
            rhos.append(gsc.observe(unimodal, piece.labels, fused_logits=fused, qhat=piece.qhat))
            (cross_entropy(fused, piece.labels) * len(piece) / len(batch)).backward()
        plain = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        rho = torch.stack([torch.cat([r[m] for r in rhos]) for m in batch.inputs]).mean()
        factor = 0.6 * rho + 0.5
        assert factor != 1
        for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
            if p in plain:
                expected = (factor if name.startswith("encoders") else 1) * plain[p]
                torch.testing.assert_close(q - p, expected, rtol=0, atol=1e-12)


def test_scaling_counts_a_shared_encoder_once():
    torch.manual_seed(0)
    model = Shared().double()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    gsc = GradientSelfCalibration(encoders=model.encoders, mode="scale", a=0, b=3).attach(optimizer)
    unimodal, fused = model({"audio": torch.randn(4, 6).double()})
    qhat = {m: torch.tensor(0.9) for m in unimodal}
    gsc.observe(unimodal, torch.zeros(4).long(), fused_logits=fused, qhat=qhat)
    fused.sum().backward()
    plain = model.encoders["audio"][0].weight.grad.clone()
    gsc.apply()
    torch.testing.assert_close(model.encoders["audio"][0].weight.grad, 3 * plain)


def test_pause_resume_remove_and_attach_again(model, batches):
    expected = copy.deepcopy(model)
    plain = optim.SGD(expected.parameters(), lr=0.1)
    for batch in batches[:2]:
        plain.zero_grad()
        cross_entropy(expected(batch.inputs)[1], batch.labels).backward()
        plain.step()
    train_with_loss(expected, plain, batches[2:4])
    for batch in batches[4:6]:
        plain.zero_grad()
        cross_entropy(expected(batch.inputs)[1], batch.labels).backward()
        plain.step()
    train_with_loss(expected, plain, batches[6:8])

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)

    def steps(some, *, observing):
        for batch in some:
            unimodal, fused = model(batch.inputs)
            if observing:
                rho = gsc.observe(unimodal, batch.labels, fused_logits=fused, qhat=batch.qhat)
                assert set(rho) == set(unimodal)
            optimizer.zero_grad()
            cross_entropy(fused, batch.labels).backward()
            optimizer.step()

    observe(gsc, model, batches[9])
    gsc.pause()  # drops what was stored
    unimodal, fused = model(batches[0].inputs)
    assert gsc.observe(unimodal, batches[0].labels, fused_logits=fused, qhat={}) == {}  # no quantile needed yet
    steps(batches[:2], observing=False)
    gsc.resume()
    steps(batches[2:4], observing=True)
    observe(gsc, model, batches[9])
    gsc.remove()  # drops it too
    steps(batches[4:6], observing=False)
    gsc.remove()  # a second time is harmless
    gsc.attach(optimizer)
    steps(batches[6:8], observing=True)
    assert_same(model, expected)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_a_copy_is_detached_and_complete(model, batches, clone):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders, mode="scale", a=0.1, b=0.2).attach(optimizer)
    observe(gsc, model, batches[0])
    other = clone(gsc)
    assert (other.mode, other.a, other.b) == ("scale", 0.1, 0.2)
    assert other.encoders["audio"] is not model.encoders["audio"]
    with pytest.raises(RuntimeError, match="not attached"):
        observe(other, model, batches[0])
    fresh = optim.SGD([p for e in other.encoders.values() for p in e.parameters()], lr=0.1)
    other.attach(fresh)
    gsc.remove()


def test_a_copied_optimizer_is_not_hooked(model, batches):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    both = copy.deepcopy({"model": model, "optimizer": optimizer})
    GradientSelfCalibration(encoders=both["model"].encoders).attach(both["optimizer"])


def test_attaching_twice_is_an_error(model):
    optimizer, other = optim.SGD(model.parameters(), lr=0.1), optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    for again in (optimizer, other):
        with pytest.raises(RuntimeError, match="attach must be called once"):
            gsc.attach(again)
    with pytest.raises(RuntimeError, match="optimizer must carry one GradientSelfCalibration"):
        GradientSelfCalibration(encoders=model.encoders).attach(optimizer)
    gsc.remove()
    GradientSelfCalibration(encoders=model.encoders).attach(optimizer)


def test_an_optimizer_that_lacks_parameters_of_an_encoder_is_refused(model):
    gsc = GradientSelfCalibration(encoders=model.encoders)
    optimizer = optim.SGD([*model.encoders["audio"].parameters(), model.encoders["image"][0].weight], lr=0.1)
    with pytest.raises(ValueError, match=r"encoders\['image'\], got one that lacks 1 of 2"):
        gsc.attach(optimizer)
    model.encoders["image"][0].bias.requires_grad_(requires_grad=False)
    gsc.attach(optimizer)  # what is frozen need not be there


class Wrapper(optim.Optimizer):
    """An optimizer in name, as some libraries hand out: its base class was never initialised."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def test_lbfgs_and_wrappers_and_non_optimizers_are_refused(model):
    gsc = GradientSelfCalibration(encoders=model.encoders)
    with pytest.raises(TypeError, match=r"use gsc_loss.*got LBFGS"):
        gsc.attach(optim.LBFGS(model.parameters()))
    with pytest.raises(TypeError, match=r"must be a torch.optim.Optimizer, got TwoStreams"):
        gsc.attach(model)
    wrapper = Wrapper(optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"must take step hooks \(attach to what a wrapper wraps\), got Wrapper"):
        gsc.attach(wrapper)
    gsc.attach(wrapper.optimizer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoders": [nn.Linear(1, 1)]}, TypeError, "encoders must map each modality, at least one, to a module"),
        ({"encoders": {"audio": torch.zeros(1)}}, TypeError, "to a module, got {'audio': tensor"),
        ({"encoders": {}}, TypeError, "at least one, to a module, got {}"),
        ({"mode": "multiply"}, ValueError, "mode must be one of 'add', 'scale', got 'multiply'"),
        ({"b": -1}, ValueError, "b must be finite and at least 0, got -1"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        GradientSelfCalibration(**({"encoders": {"audio": nn.Linear(1, 1)}} | options))


def test_bad_observations_are_refused_and_leave_nothing_behind(model, batches):
    batch = batches[0]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders)
    unimodal, fused = model(batch.inputs)
    good = {"unimodal_logits": unimodal, "labels": batch.labels, "fused_logits": fused, "qhat": batch.qhat}
    with pytest.raises(RuntimeError, match=r"observe must follow attach\(optimizer\)"):
        gsc.observe(**good)
    gsc.attach(optimizer)
    detached = {m: z.detach() for m, z in unimodal.items()}
    stray = {m: torch.zeros_like(z, requires_grad=True) for m, z in unimodal.items()}
    half = {m: z.half() for m, z in unimodal.items()}
    for change, error, message in [
        ({"unimodal_logits": detached}, ValueError, "must carry a graph, got logits that were detached"),
        ({"unimodal_logits": stray}, ValueError, "must depend on a parameter of the optimizer, got none"),
        ({"unimodal_logits": half}, RuntimeError, r"float16.*attach\(optimizer, scaler=...\)"),
        ({"labels": batch.labels + 4}, ValueError, r"labels must lie in 0\.\.3"),
        ({"qhat": {"audio": batch.qhat["audio"]}}, ValueError, "without 'image'"),
        ({"fused_logits": fused[:, :3]}, ValueError, "fused_logits must have shape"),
    ]:
        with pytest.raises(error, match=message):
            gsc.observe(**(good | change))
    before = copy.deepcopy(model)
    optimizer.step()
    assert_same(model, before, 0)


@pytest.mark.parametrize("mode", ["add", "scale"])
def test_cost_in_operations_does_not_depend_on_the_batch(model, batches, mode, watch):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders, mode=mode).attach(optimizer)
    counts = []
    for rows in (slice(0, 3), slice(0, 12)):
        piece = batches[0].rows(rows)
        with watch() as operations:
            unimodal, fused = model(piece.inputs)
            gsc.observe(unimodal, piece.labels, fused_logits=fused, qhat=piece.qhat, check=False)
            optimizer.zero_grad()
            cross_entropy(fused, piece.labels).backward()
            optimizer.step()
        counts.append(operations.count)
    assert counts[0] == counts[1]
