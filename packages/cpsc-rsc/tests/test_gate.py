"""The gate: what core computes, in a module; and what becomes of a fusion behind it."""

import copy
import io
import math
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from conformal_core import FeatureNorm, Mahalanobis, NoveltyGate
from cpsc_rsc import ConformalGate

DIMS = {"audio": 6, "image": 4}
CLASSES = 3


def features(rows, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    return {m: scale * torch.randn(rows, d, generator=generator) + 4 * labels[:, None] for m, d in DIMS.items()}, labels


@pytest.fixture(params=["classes", "all"])
def gate(request):
    made = ConformalGate(DIMS, classes=CLASSES, alpha=0.1, distance=request.param)
    made.fit(*features(300), features(99, seed=1)[0])
    return made


def noisy(seed=2):
    h, _ = features(50, seed=seed)
    return h | {"audio": h["audio"] + 30 * torch.randn(50, 6, generator=torch.Generator().manual_seed(3))}


def test_weights_are_those_of_the_core(gate):
    training, labels = features(300)
    for m in DIMS:
        cores = []
        for score in (
            Mahalanobis(classes=CLASSES if gate.distance == "classes" else None, shrinkage=1e-3),
            FeatureNorm(),
        ):
            score.update(training[m].double(), labels if gate.distance == "classes" else None)
            cores.append(NoveltyGate(score, alpha=0.05))
            cores[-1].calibrate(features(99, seed=1)[0][m].double())
        for asked in (noisy(), features(40, seed=5)[0], {k: x / 99 for k, x in noisy().items()}):
            wanted = torch.minimum(*(core.weights(asked[m].double()) for core in cores))
            torch.testing.assert_close(gate.weights(asked)[m].double(), wanted, rtol=1e-3, atol=1e-4)


def test_a_clean_sample_is_down_weighted_as_often_as_promised():
    """Over draws of the calibration part; four standard errors, one in 16,000."""
    alpha, runs = 0.1, 400
    down = dict.fromkeys(DIMS, 0.0)
    gate = ConformalGate(DIMS, classes=CLASSES, alpha=alpha)
    for run in range(runs):
        gate.fit(*features(60), features(39, seed=10 + run)[0])
        for m, w in gate.weights(features(30, seed=10_000 + run)[0]).items():
            down[m] += (w < 1).double().mean().item() / runs
    for share in down.values():
        assert share < alpha + 4 * math.sqrt(alpha * (1 - alpha) / runs)
        assert share > alpha / 2


def test_samples_that_tie_with_the_threshold_are_not_down_weighted():
    """99 calibration samples of twelve kinds: for each score, at most nine lie above its quantile at α/2 = .1."""
    training, labels = features(300)
    for seed in range(30):
        kinds = features(12, seed=100 + seed)[0]
        which = torch.randint(0, 12, (99,), generator=torch.Generator().manual_seed(seed))
        calibration = {m: h[which] for m, h in kinds.items()}
        gate = ConformalGate(DIMS, classes=CLASSES, alpha=0.2)
        gate.fit(training, labels, calibration)
        assert all((w < 1).sum() <= 2 * 9 for w in gate.weights(calibration).values())


def test_before_it_is_fitted_nothing_is_down_weighted():
    gate, (h, _) = ConformalGate(DIMS, classes=CLASSES), features(5, scale=100.0)
    with pytest.warns(UserWarning, match="is not fitted"):
        assert all(torch.equal(gate(h)[m], h[m]) for m in DIMS)


def test_too_few_calibration_samples_turn_nothing_down_and_say_so():
    gate = ConformalGate(DIMS, classes=CLASSES, alpha=0.1)
    with pytest.warns(UserWarning, match="5 calibration scores are too few"):
        gate.fit(*features(60), features(5, seed=1)[0])
    assert all((w == 1).all() for w in gate.weights(noisy()).values())


def test_a_broken_modality_leaves_late_fusion_and_concatenation(gate):
    h = noisy()
    scaled = gate(h)
    assert torch.equal(scaled["image"][gate.weights(h)["image"] == 1], h["image"][gate.weights(h)["image"] == 1])
    assert scaled["audio"].norm() < 0.2 * h["audio"].norm()
    far = {"audio": 1e9 * torch.ones(1, 6), "image": features(1)[0]["image"]}
    head = nn.Linear(10, CLASSES)
    whole = head(torch.cat(list(gate(far).values()), -1))
    missing = head(torch.cat([torch.zeros(1, 6), gate(far)["image"]], -1))
    torch.testing.assert_close(whole, missing)


def test_attention_takes_the_logarithm():
    """Attention over modalities, with log w added to its scores, forgets the broken one."""
    gate = ConformalGate({"a": 8, "b": 8}, classes=1, distance="all")
    generator = torch.Generator().manual_seed(0)
    training, calibration = ({m: torch.randn(n, 8, generator=generator) for m in ("a", "b")} for n in (200, 100))
    gate.fit(training, torch.zeros(200, dtype=torch.long), calibration)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    h = {"a": torch.full((3, 8), 1e12), "b": torch.randn(3, 8, generator=generator)}
    bias = torch.stack([w.log() for w in gate.weights(h).values()], -1)[:, None].repeat_interleave(2, 0)
    query, tokens = h["b"][:, None], torch.stack([torch.randn(3, 8, generator=generator), h["b"]], 1)
    got, _ = attention(query, tokens, tokens, attn_mask=bias)
    alone, _ = attention(query, tokens[:, 1:], tokens[:, 1:])
    torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-5)


def test_a_dead_sensor_is_told_by_the_length_of_its_features(gate):
    """The origin lies between the classes: no distance to them is large."""
    h, _ = features(200, seed=4)
    dead = {m: 1e-3 * x for m, x in h.items()}
    silent = copy.deepcopy(gate)
    for fitted in silent._of.values():
        fitted.slope.zero_()
        fitted.offset.zero_()
    for m in DIMS:
        assert gate.weights(dead)[m].max() < 0.2
        assert silent.weights(dead)[m].median() > 0.6
    zero = {m: torch.zeros_like(x, requires_grad=True) for m, x in h.items()}
    sum(x.sum() for x in gate(zero).values()).backward()
    assert all(x.grad.isfinite().all() for x in zero.values())


def test_far_apart_classes_cost_no_precision():
    """A difference of large squares would be wrong by more than the distances themselves."""
    gate, score = ConformalGate({"a": 4}, classes=2, alpha=0.1), Mahalanobis(classes=2, shrinkage=1e-3)
    generator, labels = torch.Generator().manual_seed(0), torch.arange(300) % 2
    training, calibration, asked = (torch.randn(300, 4, generator=generator) + 3000 * labels[:, None] for _ in range(3))
    gate.fit({"a": training}, labels, {"a": calibration})
    score.update(training.double(), labels)
    core = NoveltyGate(score, alpha=0.05)
    core.calibrate(calibration.double())
    near = core.weights(asked.double())
    torch.testing.assert_close(gate._of["a"].qhat.double(), core.qhat, rtol=0.01, atol=0)
    gate._of["a"].slope.zero_()  # leaves distances
    gate._of["a"].offset.zero_()
    torch.testing.assert_close(gate.weights({"a": asked})["a"].double(), near, rtol=0.01, atol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_sensor_that_gives_no_numbers_has_no_vote(gate, broken):
    h, _ = features(4)
    h["audio"][1:3] = broken
    scaled = gate(h)
    assert all(x.isfinite().all() for x in scaled.values())
    assert torch.equal(scaled["audio"][1:3], torch.zeros(2, 6))
    assert (gate.weights(h)["audio"][[0, 3]] > 0).all()


def test_it_says_its_options(gate):
    assert f"alpha=0.1, distance={gate.distance!r}" in repr(gate)


def test_a_missing_modality_stays_missing(gate):
    assert set(gate({"image": noisy()["image"]})) == {"image"}


def test_it_travels_with_the_model(gate):
    stream, other = io.BytesIO(), ConformalGate(DIMS, classes=CLASSES, alpha=0.1, distance=gate.distance)
    torch.save(gate.state_dict(), stream)
    other.load_state_dict(torch.load(io.BytesIO(stream.getvalue()), weights_only=True))
    groups = CLASSES if gate.distance == "classes" else 1
    assert {m: tuple(gate.state_dict()[f"_of.{m}.points"].shape) for m in DIMS} == {
        "audio": (groups, 6),
        "image": (groups, 4),
    }
    exported = torch.export.export(copy.deepcopy(gate), (noisy(),))
    for m, h in gate(noisy()).items():
        assert torch.equal(other(noisy())[m], h)
        torch.testing.assert_close(exported.module()(noisy())[m], h)


def test_half_precision_changes_no_decision(gate):
    h = {m: x.bfloat16() for m, x in noisy().items()}
    with torch.autocast("cpu", torch.bfloat16):
        got = gate(h)
    assert {x.dtype for x in got.values()} == {torch.bfloat16}
    plain = gate.weights({m: x.float() for m, x in h.items()})
    for m, x in got.items():
        torch.testing.assert_close(x, (h[m] * plain[m][:, None].bfloat16()))


def test_double_precision_is_taken(gate):
    got = gate({m: x.double() for m, x in noisy().items()})
    assert {x.dtype for x in got.values()} == {torch.float64}


def test_gradients_pass(gate):
    h = {m: x.requires_grad_() for m, x in noisy().items()}
    sum(x.sum() for x in gate(h).values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in h.values())


@pytest.mark.newer_torch
def test_a_device_is_not_waited_for():
    with FakeTensorMode(), torch.device("cuda"):
        fake = ConformalGate(DIMS, classes=CLASSES)
        with pytest.warns(UserWarning, match="is not fitted"):
            out = fake({m: torch.randn(7, d) for m, d in DIMS.items()})
    assert {x.device.type for x in out.values()} == {"cuda"}


def test_a_class_without_samples_attracts_nothing():
    few, many = (ConformalGate(DIMS, classes=classes, alpha=0.1) for classes in (CLASSES, CLASSES + 4))
    for gate in (few, many):
        gate.fit(*features(300), features(99, seed=1)[0])
    for m in DIMS:
        torch.testing.assert_close(few.weights(noisy())[m], many.weights(noisy())[m])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConformalGate(DIMS, classes=0), ValueError, "classes must be at least 1, got 0"),
        (lambda: ConformalGate(DIMS, classes=2, alpha=1.0), ValueError, r"alpha must lie in \(0, 1\), got 1.0"),
        (lambda: ConformalGate(DIMS, classes=2, distance="l2"), ValueError, "distance must be one of 'classes', 'all'"),
        (lambda: ConformalGate({"audio": 0}, classes=2), ValueError, "dim must be at least 1, got 0"),
        (
            lambda: ConformalGate(DIMS, classes=2).weights({"text": torch.zeros(1, 4)}),
            ValueError,
            r"features must hold at least one of the modalities \['audio', 'image'\] and no other",
        ),
        (
            lambda: ConformalGate(DIMS, classes=2).weights({"image": torch.zeros(1, 5)}),
            ValueError,
            r"features\['image'\] must have shape \(B, 4\), got \(1, 5\)",
        ),
        (
            lambda: ConformalGate(DIMS, classes=CLASSES).fit(*features(9), {"audio": torch.zeros(5, 6)}),
            ValueError,
            r"calibration must hold every modality, got \['audio'\] without \['image'\]",
        ),
        (
            lambda: ConformalGate(DIMS, classes=CLASSES).fit({"image": torch.zeros(9, 4)}, *reversed(features(9))),
            ValueError,
            r"training must hold every modality, got \['image'\] without \['audio'\]",
        ),
        (
            lambda: ConformalGate(DIMS, classes=CLASSES).fit(
                *features(9), features(9)[0] | {"audio": torch.zeros(9, 7)}
            ),
            ValueError,
            r"calibration\['audio'\] must have shape \(B, 6\), got \(9, 7\)",
        ),
        (
            lambda: ConformalGate(DIMS, classes=2).fit(*features(9), features(9)[0]),
            ValueError,
            r"labels must lie in 0\.\.1, got 2 at row 2",
        ),
    ],
)
def test_bad_use_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# A gate that is not fitted


def said(gate, h):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        gate(h)
        gate.weights(h)
        copy.deepcopy(gate)(h)
    return [str(one.message) for one in found]


@pytest.mark.parametrize("part", ["training", "calibration"])
@pytest.mark.parametrize("broken", [lambda h: h[:, :-1], lambda h: torch.full_like(h, math.nan)])
def test_a_fault_in_the_second_modality_leaves_the_first_as_it_was(gate, part, broken):
    (training, labels), calibration = features(60, seed=7), features(60, seed=8)[0]
    given = {"training": training, "calibration": calibration}
    given[part] = given[part] | {"image": broken(given[part]["image"])}
    before = copy.deepcopy(gate.state_dict())
    with pytest.raises(ValueError, match=r"image|finite|NaN"):
        gate.fit(labels=labels, **given)
    assert all(torch.equal(value, before[key]) for key, value in gate.state_dict().items())


def test_a_gate_that_is_not_fitted_says_so_once(gate):
    h, _ = features(5)
    bare = ConformalGate(DIMS, classes=CLASSES, alpha=0.1, distance=gate.distance)
    (text,) = said(bare, h)
    assert text == "ConformalGate is not fitted, so every weight is 1: call fit(), or load the state of one that is"
    assert said(gate, h) == []
    other = ConformalGate(DIMS, classes=CLASSES, alpha=0.1, distance=gate.distance)
    other.load_state_dict(bare.state_dict())  # of one that was not fitted either
    assert len(said(other, h)) == 1
    nn.ModuleDict({"gate": bare}).load_state_dict({f"gate.{name}": value for name, value in gate.state_dict().items()})
    again = ConformalGate(DIMS, classes=CLASSES, alpha=0.1, distance=gate.distance)
    again.load_state_dict(gate.state_dict())
    assert said(again, h) == said(bare, h) == []


def test_a_gate_whose_threshold_is_infinite_is_fitted():
    """With too few calibration rows for alpha."""
    made = ConformalGate(DIMS, classes=CLASSES, alpha=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the core says that there are too few
        made.fit(*features(300), features(9, seed=1)[0])
    again = ConformalGate(DIMS, classes=CLASSES, alpha=0.01)
    again.load_state_dict(made.state_dict())
    h, _ = features(5)
    assert said(made, h) == said(again, h) == []
    assert all((w == 1).all() for w in again.weights(h).values())


def test_calibration_rows_at_the_mean_itself_leave_such_rows_alone():
    """Their threshold is 0, and 0 / 0 would be no number."""
    gate, rows = ConformalGate({"a": 2}, classes=1, alpha=0.2, distance="all"), torch.arange(-9.0, 10.0)
    training = torch.stack([rows, rows.flip(0) ** 3], -1)  # whose mean is exactly 0
    gate.fit({"a": training}, torch.zeros(19, dtype=torch.long), {"a": torch.zeros(30, 2)})
    assert gate.weights({"a": torch.zeros(3, 2)})["a"].tolist() == [1.0] * 3
    assert gate.weights({"a": training[:1]})["a"].item() < 1e-6


def test_an_unfitted_gate_can_be_exported_and_have_no_values():
    h, _ = features(5)
    torch.export.export(ConformalGate(DIMS, classes=CLASSES), (h,))  # a warning would be an error here
    with torch.device("meta"):
        bare = ConformalGate(DIMS, classes=CLASSES)
    state = ConformalGate(DIMS, classes=CLASSES).state_dict()
    bare.load_state_dict(state, assign=True)
    assert len(said(bare, h)) == 1
