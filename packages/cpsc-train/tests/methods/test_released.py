"""`cpsc-released` against the authors' step, written once more in plain torch, a sample and a component at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.methods.cpsc import ReleasedConfig
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.recipes.base import RELEASED

MODALITIES = ("a", "b")
CLASSES, DIM, ROWS = 4, 6, 9
QHAT = {"a": torch.tensor(0.65).double(), "b": torch.tensor(0.7).double(), FUSED: torch.tensor(0.6).double()}
SETS = ("crema-d", "nyu-depth-v2", "sun-rgbd", "mvsa-single")
JUDGES = {"audio": "a", "text": "b", "depth": "b"}


def build(name):
    torch.manual_seed(0)
    vector = Modality(kind="vector", shape=(5,))
    model = MultimodalClassifier(
        dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, MLPConfig(hidden=8)), dim=DIM, classes=CLASSES
    )
    with torch.no_grad():  # heads that differ enough for every rank to occur
        for head in model.heads.values():
            head.weight *= 6
    options = RELEASED[name] | {"judge": JUDGES[RELEASED[name]["judge"]]}
    config = ReleasedConfig(components=5, a=0.5, b=0.4, **options)
    method = config.build(model.double(), MODALITIES).double()
    method.on_refresh(model)
    with torch.no_grad():  # so that the copies are not the heads
        for head in model.heads.values():
            head.weight += torch.randn_like(head.weight)
    return model, method, config


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(ROWS, 5, generator=generator, dtype=torch.float64) for m in MODALITIES}
    return inputs, torch.randint(CLASSES, (ROWS,), generator=generator)


def js(x, y):
    """The divergence of the authors' code, whose arguments are reversed: torch's kl_div(log p, m) is KL(m ‖ p)."""
    p, q = x.softmax(-1), y.softmax(-1)
    m = 0.5 * (p + q)
    return 0.5 * (kl_div(p.log(), m, reduction="batchmean") + kl_div(q.log(), m, reduction="batchmean"))


def reciprocal(p, label, threshold):
    """1 / (rank + 1) in the set of probabilities of at least 1 − threshold, 0 outside it."""
    return 1 / (1 + int((p > p[label]).sum())) if p[label] >= 1 - threshold else 0.0


def generate(method, name, m, h):
    """Return the mixed components (B, n, d) and L_ib."""
    first, _, second = method.rsc[m].decomposition.net
    assert first.out_features == 2 * DIM
    raw = second(first(h).relu()).reshape(ROWS, -1, DIM)
    n = raw.shape[1]
    matched = raw * h.norm(dim=1)[:, None, None] / raw.norm(dim=2, keepdim=True)
    seen = matched if name == "mvsa-single" else raw
    near = sum(js(seen[:, k], h) for k in range(n)) / n
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    apart = sum(js(seen[:, i], seen[:, j]) for i, j in pairs) / len(pairs)
    ib = {
        "crema-d": 0.8 * near - 0.2 * apart,
        "nyu-depth-v2": 0.8 * near - 0.2 * apart,
        "sun-rgbd": 0.8 * near,
        "mvsa-single": 0.8 * near + 0.2 * (1 - torch.sigmoid(apart)),
    }[name]
    kept = h[:, None]
    mixed = kept + 0.3 * matched if name in {"nyu-depth-v2", "sun-rgbd"} else 0.95 * kept + 0.05 * matched
    return mixed, ib


def loss_of(name, logits, fused, labels, ib):
    each = [cross_entropy(z, labels) for z in logits.values()]
    if name == "crema-d":
        return 2 * (0.8 * cross_entropy(fused, labels) + 0.2 * sum(each) + js(*logits.values()) + ib)
    return cross_entropy(fused, labels) + sum(each) + 0.1 * ib


def reference(model, method, name, features, labels):
    """Return the loss, and the factor of the encoders' gradients."""
    chosen, ib = {}, 0.0
    for m, h in features.items():
        mixed, loss = generate(method, name, m, h)
        ib = ib + loss
        rows = []
        for c, label in zip(mixed, labels, strict=True):
            p = method.frozen_heads[m](c.detach()).softmax(-1)
            rated = [reciprocal(p[k], label, QHAT[m]) for k in range(len(c))]
            best = sorted(range(len(c)), key=lambda k: (-rated[k], k))[:3]
            rows.append(c[best].mean(0))
        chosen[m] = torch.stack(rows)
    logits = {m: model.heads[m](x) for m, x in chosen.items()}
    fused = 0.5 * sum(logits.values())
    frozen = (0.5 * sum(method.frozen_heads[m](x.detach()) for m, x in chosen.items())).softmax(-1)
    judge = QHAT["a" if name == "crema-d" else "b"]
    rho = sum(reciprocal(p, y, judge) for p, y in zip(frozen, fused.argmax(-1), strict=True)) / ROWS
    return loss_of(name, logits, fused, labels, ib), 0.5 * rho + 0.4


@pytest.mark.parametrize("name", SETS)
def test_the_step_is_that_of_the_released_code(name, batch):
    inputs, labels = batch
    model, method, _ = build(name)
    encoders = list(model.encoders.parameters())
    others = [*model.heads.parameters(), *method.rsc.parameters()]
    got = method.losses(model, model.encode(inputs), labels, QHAT)
    total = torch.stack(list(got.terms.values())).sum()
    wanted, factor = reference(model, method, name, model.encode(inputs), labels)
    torch.testing.assert_close(total, wanted, rtol=1e-7, atol=0)  # the alignment is in single precision
    assert 0.4 < factor < 0.9
    for parameters, scale in ((encoders, factor), (others, 1.0)):
        found = torch.autograd.grad(total, parameters, retain_graph=True)
        expected = torch.autograd.grad(wanted, parameters, retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, scale * b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SETS)
def test_the_warm_up_has_all_losses_on_the_features(name, batch):
    inputs, labels = batch
    model, method, _ = build(name)
    features = model.encode(inputs)
    logits = {m: model.heads[m](h) for m, h in features.items()}
    ib = sum(generate(method, name, m, h)[1] for m, h in features.items())
    wanted = loss_of(name, logits, 0.5 * sum(logits.values()), labels, ib)
    found = torch.stack(list(method.losses(model, features, labels, None).terms.values())).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)
    gradients = [torch.autograd.grad(loss, features["a"], retain_graph=True)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_features_are_classified_and_calibrated_on(batch):
    model, method, _ = build("crema-d")
    features = model.encode(batch[0])
    plain = model.classify(features)
    for head, z in method.predict(model, features, QHAT).items():
        torch.testing.assert_close(z, plain[head])
        torch.testing.assert_close(method.calibration_logits(model, features, batch[1], QHAT)[head][:, 0], z)


def test_options_that_the_released_code_lacks():
    with pytest.raises(UserError, match=r"method\.trust and method\.heads_learn_on are not options of cpsc-released"):
        ReleasedConfig(trust="label")
    assert not ReleasedConfig.search
    assert ReleasedConfig(parts="gsc").build(build("crema-d")[0], MODALITIES).rsc is None
