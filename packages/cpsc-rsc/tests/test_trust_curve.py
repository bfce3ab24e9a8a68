"""Fitted trust: reference optimum, what it gains where a modality is corrupted, and that it does no harm elsewhere."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from cpsc_rsc import ConformalTrust, HeldOutCopy
from cpsc_rsc._curve_fit import _groups, _Problem
from cpsc_rsc.curve import log_trust

CLASSES, DIM = 4, 6


def samples(n, seed, modalities=("audio", "image"), spread=0.7):
    """Features of each modality around one corner a class, in the same place for every seed."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (n,), generator=generator)
    corners = 2 * torch.eye(CLASSES, DIM)
    return {m: corners[labels] + spread * torch.randn(n, DIM, generator=generator) for m in modalities}, labels


def noisy(features, modality, level, seed=9):
    noise = torch.randn(features[modality].shape, generator=torch.Generator().manual_seed(seed))
    return features | {modality: features[modality] + level * noise}


def late(features, present):
    """Average the evidence of the modalities that are there; the linear head of each is exact for `samples`."""
    head = 2 * torch.eye(DIM, CLASSES)
    masks = {m: present.get(m, torch.ones(len(h), dtype=torch.bool))[:, None] for m, h in features.items()}
    return sum(mask * (features[m] @ head) for m, mask in masks.items()) / sum(masks.values()).clamp_min(1)


def made(modalities=("audio", "image"), held_out=300, seed=0, alpha=0.05):
    """Return a calibrated trust on the features themselves, and its held-out rows."""
    trust = ConformalTrust(dict.fromkeys(modalities, (DIM,)), alpha=alpha)
    trust.update(deep(samples(500, seed, modalities)[0]))
    features, labels = samples(held_out, seed + 1, modalities)
    trust.calibrate(deep(features))
    return trust, features, labels


def deep(features):
    return {m: (h,) for m, h in features.items()}


def copies_of(trust, features, labels, levels=(2.0, 6.0), present=None):
    rows = [(features, True), *((noisy(features, m, level), False) for m in features for level in levels)]
    return [
        HeldOutCopy(features=h, distances=trust.distances(deep(h)), labels=labels, present=present or {}, clean=clean)
        for h, clean in rows
    ]


def accuracy(trust, classify, features, labels, *, weighted=True):
    h = trust(features, deep(features)) if weighted else features
    return 100 * (classify(h, {}).argmax(-1) == labels).double().mean().item()


def values(trust):
    return torch.stack([torch.stack([of.offset, of.slope]) for of in trust._of.values()], -1)


def test_the_fit_is_the_optimum_of_an_independent_implementation():
    trust, features, labels = made()
    copies = copies_of(trust, features, labels)
    head, y = 2 * np.eye(DIM, CLASSES), labels.numpy()

    def loss(x):
        b, slope, t = x[0:2], np.logaddexp(0, x[2:4] - 1), x[4]
        total = weights = 0.0
        for one in copies:
            z = 0.0
            for j, m in enumerate(("audio", "image")):
                g = (1 + math.exp(-b[j])) / (1 + np.exp(slope[j] * one.distances[m].double().numpy() - b[j]))
                z = z + g[:, None] * (one.features[m].double().numpy() @ head) / 2
            z = math.exp(t) * z
            losses = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y]
            total, weights = total + (4 if one.clean else 1) * losses.mean(), weights + (4 if one.clean else 1)
        return total / weights + 0.1 * ((b - 2) @ (b - 2) + slope @ slope) / len(y)

    best = minimize(loss, np.array([2, 2, 0, 0, 0.0]), method="BFGS")
    b, slope = _Problem(late, ("audio", "image"), 1.0, _groups(copies), len(y)).fit().numpy()
    np.testing.assert_allclose(b, best.x[0:2], atol=0.1)
    np.testing.assert_allclose(slope, np.logaddexp(0, best.x[2:4] - 1), atol=0.05)


def test_trust_falls_from_one_to_zero():
    distance = torch.linspace(0, 30, 61, dtype=torch.float64)
    for offset in (-3.0, 0.0, 5.0):
        for slope in (0.0, 0.3, 4.0):
            g = log_trust(distance, torch.tensor(offset), torch.tensor(slope)).exp()
            wanted = (1 + math.exp(-offset)) / (1 + (slope * distance - offset).exp())
            torch.testing.assert_close(g, wanted)
            assert g[0] == 1
            assert (g.diff() <= 0).all()
            assert log_trust(torch.tensor([math.inf]), torch.tensor(offset), torch.tensor(slope)).exp() == 0


class Concatenation(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * DIM, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, features, present):
        return self.layers(torch.cat([features["audio"], features["image"]], -1))


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(DIM, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, features, present):
        return self.layers(features["audio"] + features["image"])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, features, present):
        tokens = torch.stack([features["audio"], features["image"]], 1)
        return self.head(self.mix(tokens, tokens, tokens, need_weights=False)[0].sum(1))


@pytest.mark.parametrize("fusion", [None, Concatenation, Sum, Attention])
def test_a_corrupted_modality_loses_its_vote(fusion):
    """For kinds and levels of noise that the fit did not see."""
    classify = fusion() if fusion else late
    if fusion:
        h, y = samples(600, 20)
        optimizer = torch.optim.Adam(classify.parameters(), 0.02)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(classify(h, {}), y).backward()
            optimizer.step()
        classify.requires_grad_(False)
    trust, features, labels = made()
    trust.fit_curve(copies_of(trust, features, labels), classify)
    fresh, truth = samples(1000, 30)
    cost = accuracy(trust, classify, fresh, truth, weighted=False) - accuracy(trust, classify, fresh, truth)
    assert cost < 1
    far = trust.trust(trust.distances(deep(noisy(fresh, "audio", 10.0))))
    assert far["audio"].median() < 0.5
    assert (far["image"] == 1).double().mean() > 0.9
    for m in ("audio", "image"):
        broken = noisy(fresh, m, 4.0, seed=40)
        gain = accuracy(trust, classify, broken, truth) - accuracy(trust, classify, broken, truth, weighted=False)
        assert gain > 5


@pytest.mark.parametrize("seed", range(3))
def test_equal_modalities_without_corrupted_copies_keep_weights_of_one(seed):
    trust, features, labels = made(seed=10 * seed)
    trust.fit_curve(copies_of(trust, features, labels, levels=()), late)
    assert all((w == 1).all() for w in trust.weights(deep(noisy(features, "audio", 9.0))).values())


def test_few_rows_keep_weights_of_one():
    trust, features, labels = made(held_out=24)
    few = [
        HeldOutCopy(features={m: h[:3] for m, h in c.features.items()}, labels=c.labels[:3], clean=c.clean,
                    distances={m: d[:3] for m, d in c.distances.items()})
        for c in copies_of(trust, features, labels)
    ]  # fmt: skip
    trust.fit_curve(few, late)
    assert all((w == 1).all() for w in trust.weights(deep(features)).values())


def test_rows_in_which_nothing_is_unusual_are_classified_as_before():
    """Also where one modality misleads: no distance shows that."""
    trust, features, labels = made()

    def misleading(h, present):
        return late({"audio": h["audio"].roll(1, dims=-1), "image": h["image"]}, present)

    trust.fit_curve(copies_of(trust, features, labels), misleading)
    fresh, _ = samples(1000, 31)
    usual = torch.stack([d == 0 for d in trust.distances(deep(fresh)).values()]).all(0)
    assert usual.double().mean() > 0.8
    weighted = trust(fresh, deep(fresh))
    assert all(torch.equal(weighted[m][usual], h[usual]) for m, h in fresh.items())
    assert not torch.equal(weighted["audio"], fresh["audio"])


def test_labels_that_follow_nothing_keep_weights_of_one():
    trust, features, _ = made()
    trust.fit_curve(copies_of(trust, features, torch.arange(300) % CLASSES), late)
    assert all((w == 1).all() for w in trust.weights(deep(noisy(features, "audio", 9.0))).values())


def test_where_every_modality_is_far_the_most_trusted_decides():
    """With trusts of 1e-13 the heads' biases would be larger than the evidence."""
    trust, features, labels = made()
    for of in trust._of.values():
        of.slope.fill_(6.0)

    def biased(h, present):
        return late(h, present) + torch.tensor([1.0, 0, 0, 0])

    scaled = {m: 30 * h for m, h in features.items()}
    distances = trust.distances(deep(scaled))
    assert all((trust.trust({m: d})[m] < 1e-6).all() for m, d in distances.items())
    weights = torch.stack(list(trust.weights_at(distances).values()))
    assert ((weights.amax(0) - 1).abs() < 1e-6).all()
    assert accuracy(trust, biased, scaled, labels) > 80
    assert biased(trust(scaled, deep(scaled)), {}).argmax(-1).bincount(minlength=CLASSES).min() > 30
    far = deep(noisy(features, "audio", 30.0))  # the weights of rows without an image do not depend on its depths
    lacking = {"image": torch.zeros(300, dtype=torch.bool)}
    assert (trust.weights(far)["audio"] < 1e-6).double().mean() > 0.9
    assert torch.equal(trust.weights(far, present=lacking)["audio"], torch.ones(300))
    broken = {m: (torch.full_like(h, math.nan),) for m, h in features.items()}
    assert all((w == 0).all() for w in trust.weights(broken).values())


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_modalities(count):
    names = tuple("abcde"[:count])
    trust, features, labels = made(names)
    trust.fit_curve(copies_of(trust, features, labels), late)
    fresh, truth = samples(1000, 30, names)
    assert accuracy(trust, late, fresh, truth) > accuracy(trust, late, fresh, truth, weighted=False) - 1
    assert values(trust).isfinite().all()


def test_missing_modalities():
    """Rows that lack one have any distance and features of 0; one copy lacks the modality in all rows."""
    trust, features, labels = made()
    lacking = torch.arange(300) % 3 == 0
    features["audio"][lacking] = 0
    copies = copies_of(trust, features, labels, present={"audio": ~lacking})
    for one in copies:
        one.distances["audio"][lacking] = math.inf
    image = {"image": features["image"]}
    copies.append(HeldOutCopy(features=image, distances=trust.distances(deep(image)), labels=labels, clean=True))
    trust.fit_curve(copies, late)
    assert values(trust).isfinite().all()
    broken, truth = samples(1000, 30)
    broken = noisy(broken, "audio", 5.0)
    assert accuracy(trust, late, broken, truth) > accuracy(trust, late, broken, truth, weighted=False) + 5


def test_the_fit_is_deterministic_and_travels_with_the_model():
    trust, features, labels = made()
    copies = copies_of(trust, features, labels)
    for one in (again := copy.deepcopy(trust), trust):
        one.fit_curve(copies, late)
    assert torch.equal(values(again), values(trust))
    loaded = ConformalTrust(dict.fromkeys(features, (DIM,)))
    loaded.load_state_dict(trust.state_dict())
    asked = noisy(features, "audio", 5.0)
    exported = torch.export.export(copy.deepcopy(trust), (asked, deep(asked))).module()
    compiled = torch.compile(copy.deepcopy(trust), fullgraph=True, backend="eager")
    for m, h in trust(asked, deep(asked)).items():
        assert torch.equal(loaded(asked, deep(asked))[m], h)
        torch.testing.assert_close(exported(asked, deep(asked))[m], h)
        torch.testing.assert_close(compiled(asked, deep(asked))[m], h)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clean": False}, ValueError, "copies must hold at least one with clean=True, got 1 without"),
        ({"labels": torch.zeros(7)}, TypeError, r"copies\[0\].labels must be of an integer dtype, got torch.float32"),
        ({"labels": [0] * 7}, TypeError, r"copies\[0\].labels must be a tensor, got list"),
        ({"distances": {}}, ValueError, r"copies\[0\].distances must hold every modality .* none of \['audio', 'im"),
        ({"features": {"text": torch.zeros(7, 2)}}, ValueError, r"copies\[0\].features must hold at least one"),
        (
            {"features": {"audio": torch.zeros(6, 2)}},
            ValueError,
            r"copies\[0\].features\['audio'\] must have shape \(7, d\), got \(6, 2\)",
        ),
        ({"present": {"audio": torch.ones(7)}}, TypeError, r"copies\[0\].present\['audio'\] must be .* booleans"),
    ],
)
def test_bad_copies_are_refused(change, error, message):
    trust = ConformalTrust({"audio": (DIM,), "image": (DIM,)})
    rows = {m: torch.zeros(7, DIM) for m in ("audio", "image")}
    arguments = {"features": rows, "distances": {m: torch.zeros(7) for m in rows}, "clean": True}
    arguments["labels"] = torch.zeros(7, dtype=torch.long)
    with pytest.raises(error, match=message):
        trust.fit_curve([HeldOutCopy(**arguments | change)], late)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (lambda logits: (logits, logits), TypeError, "the output of classify must be a tensor, got tuple"),
        (lambda logits: logits[:, 0], ValueError, r"the output of classify must have shape \(\d+, C\)"),
    ],
)
def test_a_classifier_without_fused_logits_is_refused(output, error, message):
    trust, features, labels = made(held_out=24)
    with pytest.raises(error, match=message):
        trust.fit_curve(copies_of(trust, features, labels), lambda f, present: output(late(f, present)))
