"""CPSC against the equations, written once more as plain loops over modalities, samples and components."""

import inspect

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from cpsc_gsc import gsc_loss
from cpsc_rsc import RepresentationSelfCalibration
from cpsc_train.data import Modality
from cpsc_train.errors import UserError
from cpsc_train.methods.cpsc import CPSCConfig, LiteralConfig
from cpsc_train.methods.joint import JointConfig, JointUnimodalConfig
from cpsc_train.models import FUSED, MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig

MODALITIES = ("a", "b")
CLASSES, DIM, ROWS = 4, 6, 9
QHAT = {"a": torch.tensor(0.8).double(), "b": torch.tensor(0.75).double(), FUSED: torch.tensor(0.7).double()}


def build(config):
    torch.manual_seed(0)
    vector = Modality(kind="vector", shape=(5,))
    model = MultimodalClassifier(
        dict.fromkeys(MODALITIES, vector), dict.fromkeys(MODALITIES, MLPConfig(hidden=8)), dim=DIM, classes=CLASSES
    )
    with torch.no_grad():  # heads that differ enough for every rank to occur
        for head in model.heads.values():
            head.weight *= 6
    return model.double(), config.build(model, MODALITIES).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(ROWS, 5, generator=generator, dtype=torch.float64) for m in MODALITIES}
    return inputs, torch.randint(CLASSES, (ROWS,), generator=generator)


def reliability(logits, label, qhat):
    """1 − rank / |C| of one row, zero-based rank inside the set, 0 outside it."""
    scores = 1 - logits.detach().softmax(-1)
    inside = [k for k in range(CLASSES) if scores[k] <= qhat]
    if label not in inside:
        return 0.0
    return 1 - sum(1 for k in inside if scores[k] < scores[label]) / len(inside)


def decompose(h, weight, config):
    components = []
    for k in range(config.components):
        c = (weight[k * DIM : (k + 1) * DIM] @ h).relu()
        if config.match_magnitude and c.norm() > 0:
            c = c * h.norm() / c.norm()
        components.append((1 - config.residual) * h + config.residual * c)
    return components


def divergence(h, components, consistency=0.8, diversity=0.2):
    p = [log_softmax(x, -1) for x in (h, *components)]
    kl = lambda i, j: (p[i].exp() * (p[i] - p[j])).sum()  # noqa: E731
    n = len(components)
    pull = sum(kl(0, k) for k in range(1, n + 1)) / n
    push = sum(kl(i, j) for i in range(1, n + 1) for j in range(1, n + 1) if i != j) / (n * (n - 1))
    return consistency * pull - diversity * push


def naive(model, method, config, features, labels):
    """Return the loss terms of the paper, one sample at a time."""
    recomposed = {m: [] for m in MODALITIES}
    terms = {f"div_{m}": 0.0 for m in MODALITIES}
    for m in MODALITIES:
        for h, label in zip(features[m], labels, strict=True):
            decomposed = decompose(h, dict(method.rsc[m].named_parameters())["decomposition.net.0.weight"], config)
            terms[f"div_{m}"] = terms[f"div_{m}"] + divergence(h, decomposed) / ROWS
            rated = []
            for k, c in enumerate(decomposed):
                logits = model.heads[m](c)
                score = 1 - logits.detach().softmax(-1)[label].item()
                rated.append((-reliability(logits, int(label), QHAT[m]), score, k))
            best = [k for _, _, k in sorted(rated)[: config.top_k]]
            recomposed[m].append(sum(decomposed[k] for k in best) / config.top_k)
    recomposed = {m: torch.stack(rows) for m, rows in recomposed.items()}
    logits = {m: model.heads[m](x) for m, x in recomposed.items()}
    fused = sum(logits.values()) / len(MODALITIES)
    terms["ce_fused"] = cross_entropy(fused, labels)
    terms["gsc"] = 0.0
    for m in MODALITIES:
        for i in range(ROWS):
            rho = reliability(logits[m][i], int(fused[i].argmax()), QHAT[m])
            weight = config.a * rho + config.b
            terms["gsc"] = terms["gsc"] + weight * cross_entropy(logits[m][i], labels[i]) / ROWS
    return terms


@pytest.mark.parametrize("options", [{"residual": 0.3, "match_magnitude": True}, {}, {"a": 0.1, "b": 1.0, "top_k": 1}])
def test_terms_and_gradients_are_those_of_the_equations(batch, options):
    config = LiteralConfig(components=5, **options)
    model, method = build(config)
    inputs, labels = batch
    parameters = [*model.parameters(), *method.parameters()]
    got = method.losses(model, model.encode(inputs), labels, QHAT).terms
    gradients = torch.autograd.grad(torch.stack(list(got.values())).sum(), parameters)
    wanted = naive(model, method, config, model.encode(inputs), labels)
    assert got.keys() == wanted.keys()
    for name, term in wanted.items():
        torch.testing.assert_close(got[name], term, rtol=1e-9, atol=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(sum(wanted.values()), parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_without_rsc_and_gsc_it_is_joint_unimodal_training(batch):
    inputs, labels = batch
    model, off = build(CPSCConfig())
    _, plain = build(JointUnimodalConfig())
    features = model.encode(inputs)
    got, expected = (method.losses(model, features, labels, None).terms for method in (off, plain))
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    assert not list(off.parameters())
    assert (off.conformal, off.warmup) == (plain.conformal, plain.warmup)


@pytest.mark.parametrize("parts", ["rsc", "gsc", "both"])
def test_with_parts_there_are_a_conformal_predictor_and_a_warm_up(parts):
    _, method = build(CPSCConfig(parts=parts, warmup=3))
    assert (method.conformal, method.warmup) == (True, 3)
    assert set(method.config.searched) == {"residual", "heads_learn_on"}


def test_options_of_the_parts_have_no_effect_without_them(batch):
    """Neither on the losses nor on a search."""
    inputs, labels = batch
    options = {"warmup": 3, "components": 4, "top_k": 2, "a": 2.0, "b": 0.1, "heads_learn_on": "features"}
    model, changed = build(CPSCConfig(**options))
    _, default = build(CPSCConfig())
    features = model.encode(inputs)
    got, expected = (method.losses(model, features, labels, None).terms for method in (changed, default))
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert changed.warmup == default.warmup == 0
    assert not changed.config.searched


def test_warm_up_is_cross_entropy_of_the_features(batch):
    inputs, labels = batch
    model, method = build(CPSCConfig(parts="both"))
    features = model.encode(inputs)
    logits = model.classify(features)
    got = method.losses(model, features, labels, None)
    assert got.terms.keys() == {"ce_a", "ce_b", "ce_fused"}
    for head, z in logits.items():
        torch.testing.assert_close(got.terms[f"ce_{head}"], cross_entropy(z, labels))


def test_joint_unimodal_weighs_the_modalities(batch):
    inputs, labels = batch
    model, method = build(JointUnimodalConfig(weight=0.5))
    logits = model.classify(model.encode(inputs))
    for name, term in method.losses(model, model.encode(inputs), labels, None).terms.items():
        head = name.removeprefix("ce_")
        torch.testing.assert_close(term, (1.0 if head == FUSED else 0.5) * cross_entropy(logits[head], labels))


def test_joint_has_one_term(batch):
    inputs, labels = batch
    model, method = build(JointConfig())
    assert list(method.losses(model, model.encode(inputs), labels, None).terms) == ["ce_fused"]


def test_gsc_off_weighs_every_sample_alike(batch):
    inputs, labels = batch
    model, method = build(CPSCConfig(parts="rsc"))
    out = method.losses(model, model.encode(inputs), labels, QHAT)
    wanted = sum(cross_entropy(out.logits[m], labels) for m in MODALITIES)
    torch.testing.assert_close(out.terms["gsc"], wanted)


def test_heads_may_learn_on_the_features(batch):
    inputs, labels = batch
    model, method = build(CPSCConfig(parts="rsc", heads_learn_on="features"))
    features = model.encode(inputs)
    wanted = sum(cross_entropy(model.heads[m](features[m]), labels) for m in MODALITIES)
    torch.testing.assert_close(method.losses(model, features, labels, QHAT).terms["gsc"], wanted)


def test_inference_modes(batch):
    inputs, _ = batch
    model, method = build(CPSCConfig(parts="both", inference="mean"))
    features = model.encode(inputs)
    plain = model.classify(features)
    means = {m: method.rsc[m].components(h).mean(1) for m, h in features.items()}
    for head, z in method.predict(model, features, QHAT).items():
        torch.testing.assert_close(z, model.classify(means)[head])
    torch.testing.assert_close(method.predict(model, features, None)[FUSED], plain[FUSED])

    model, method = build(CPSCConfig(parts="both", inference="collaborative"))
    got = method.predict(model, features, QHAT)
    for m in MODALITIES:  # a label that confirms itself says nothing of a modality
        torch.testing.assert_close(got[m], plain[m])
    chosen = method.rsc(features, plain[FUSED].argmax(-1), heads=model.heads, qhat={m: QHAT[m] for m in MODALITIES})
    wanted = sum(model.heads[m](chosen[m].recomposed) for m in MODALITIES) / 2
    torch.testing.assert_close(got[FUSED], wanted)

    model, method = build(CPSCConfig(parts="both", inference="features"))
    assert all(torch.equal(z, plain[head]) for head, z in method.predict(model, features, QHAT).items())


@pytest.mark.parametrize("qhat", [None, QHAT])
def test_features_are_calibrated_on(batch, qhat):
    inputs, labels = batch
    model, method = build(CPSCConfig(parts="both"))
    features = model.encode(inputs)
    got = method.calibration_logits(model, features, labels, qhat)
    for head, logits in model.classify(features).items():
        torch.testing.assert_close(got[head][:, 0], logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 0}, "method.warmup must be at least 1, got 0"),
        ({"components": 1}, "method.components must be at least 2"),
        ({"top_k": 11}, "method.top_k must lie in 1…components = 10, got 11"),
        ({"top_k": 0}, "method.top_k"),
        ({"residual": 0.0}, r"method.residual must lie in \(0, 1\]"),
        ({"a": -1.0}, "method.a must not be negative"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        CPSCConfig(**options)


def test_the_defaults_of_a_recipe_are_those_of_the_package():
    of_package = inspect.signature(RepresentationSelfCalibration).parameters
    shared = of_package.keys() & vars(CPSCConfig()).keys()
    assert shared >= {"residual", "components", "top_k", "consistency", "diversity"}
    assert {n: getattr(CPSCConfig(), n) for n in shared} == {n: of_package[n].default for n in shared}


def test_the_weights_of_gsc_are_those_of_the_package():
    given = inspect.signature(gsc_loss).parameters
    assert {name: getattr(CPSCConfig(), name) for name in ("a", "b")} == {n: given[n].default for n in ("a", "b")}
