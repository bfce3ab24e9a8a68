"""Every mistake is one sentence: name, rule, got."""

import re

import pytest
import torch
from torch import nn

from cpsc_rsc import (
    MultimodalSelfCalibration,
    RepresentationSelfCalibration,
    diagnose,
    divergence_loss,
    recompose,
    represent,
    top_k,
)

B, D, C = 4, 6, 3


class Callable:
    """Not a score, but it can be called."""

    def __call__(self, probs, labels=None):
        return probs


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dim": 0}, ValueError, "dim must be at least 1, got 0"),
        ({"dim": 6.0}, TypeError, "dim must be an integer, got float"),
        ({"components": 0}, ValueError, "components must be at least 1, got 0"),
        ({"components": True}, TypeError, "components must be an integer, got bool"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 11}, ValueError, "top_k must be at most the number of components (10), got 11"),
        ({"residual": 1.5}, ValueError, "residual must lie in (0, 1], got 1.5"),
        ({"residual": 0.0}, ValueError, "residual must lie in (0, 1], got 0.0"),
        ({"residual": float("nan")}, ValueError, "residual must lie in (0, 1], got nan"),
        ({"residual": "0.3"}, TypeError, "residual must be a number, got str"),
        ({"mixing": "sum"}, ValueError, "mixing must be one of 'convex', 'additive', got 'sum'"),
        ({"decomposition": "conv"}, ValueError, "decomposition must be one of 'linear', 'mlp', got 'conv'"),
        ({"divergence": "l2"}, ValueError, "divergence must be one of 'kl', 'js', 'js-reversed', got 'l2'"),
        ({"consistency": -0.1}, ValueError, "consistency must be finite and at least 0, got -0.1"),
        ({"diversity": float("inf")}, ValueError, "diversity must be finite and at least 0, got inf"),
        ({"diversity": None}, TypeError, "diversity must be a number, got NoneType"),
        ({"recomposition": "sum"}, ValueError, "recomposition must be one of 'mean', 'weighted', got 'sum'"),
        (
            {"reliability": "rank"},
            ValueError,
            "reliability must be one of 'normalized', 'reciprocal', 'probability' with LAC, got 'rank'",
        ),
        ({"score": "lac"}, TypeError, "score must be callable, such as LAC(), got str"),
        (
            {"score": Callable()},
            TypeError,
            "score must have the method score_and_reliability, as subclasses of NonconformityScore do, got Callable",
        ),
    ],
)
def test_options(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RepresentationSelfCalibration(**{"dim": D, **options})


def good():
    return {
        "h": torch.randn(B, D),
        "labels": torch.zeros(B, dtype=torch.long),
        "head": nn.Linear(D, C),
        "qhat": torch.tensor(0.9),
    }


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"h": torch.randn(B, D + 1)}, ValueError, "h must have shape (B, 6), got (4, 7)"),
        ({"h": torch.randn(B, 2, D)}, ValueError, "h must have shape (B, 6), got (4, 2, 6)"),
        ({"h": torch.zeros(B, D, dtype=torch.long)}, TypeError, "h must be of a floating dtype, got torch.int64"),
        ({"h": [[0.0] * D]}, TypeError, "h must be a tensor, got list"),
        ({"labels": torch.zeros(B)}, TypeError, "labels must be of an integer dtype, got torch.float32"),
        ({"labels": torch.zeros(B, C, dtype=torch.long)}, ValueError, "labels must have shape (4,), got (4, 3)"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, ValueError, "labels must have shape (4,), got (3,)"),
        ({"labels": [0] * B}, TypeError, "labels must be an array (numpy, torch or any array-API library), got list"),
        (
            {"labels": torch.tensor([0, 1, 3, 0])},
            ValueError,
            "labels must lie in 0..2, got 3 at row 2",
        ),
        (
            {"labels": torch.tensor([0, -1, 0, 0])},
            ValueError,
            "labels must lie in 0..2, got -1 at row 1",
        ),
        (
            {"head": nn.Linear(D, 1), "labels": torch.tensor([0, 0, 0, 1])},
            ValueError,
            "labels must lie in 0..0, got 1 at row 3",
        ),
        (
            {"qhat": None},
            TypeError,
            "qhat must be a 0-d tensor, got NoneType: calibrate once before the first step that uses it",
        ),
        ({"qhat": 0.9}, TypeError, "qhat must be a 0-d tensor, got float"),
        ({"qhat": torch.ones(C)}, ValueError, "qhat must be a 0-d floating tensor, got shape (3,) of torch.float32"),
        ({"qhat": torch.tensor(1)}, ValueError, "qhat must be a 0-d floating tensor, got shape () of torch.int64"),
        ({"qhat": torch.tensor(float("nan"))}, ValueError, "qhat must not be NaN, got nan at index ()"),
        ({"head": None}, TypeError, "head must be callable, got NoneType"),
        ({"head": lambda x: x.sum(-1)}, ValueError, "output of head must have shape (40, K), got (40,)"),
        ({"head": lambda x: x[:4]}, ValueError, "output of head must have shape (40, K), got (4, 6)"),
        (
            {"head": lambda x: (x, x)},
            TypeError,
            "output of head must be an array (numpy, torch or any array-API library), got tuple",
        ),
        (
            {"h": torch.full((B, D), float("nan"))},
            ValueError,
            "probs must be finite, got nan at index (0, 0, 0)",
        ),
    ],
)
def test_calls(wrong, error, message):
    rsc, arguments = RepresentationSelfCalibration(D), good() | wrong
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        rsc(arguments.pop("h"), arguments.pop("labels"), **arguments)


def test_values_are_not_read_when_told_not_to():
    rsc, arguments = RepresentationSelfCalibration(D), good() | {"h": torch.full((B, D), float("nan"))}
    assert rsc(arguments.pop("h"), arguments.pop("labels"), **arguments, check=False).divergence.isnan()


@pytest.mark.parametrize("shape", [(B, D), (B, 10, D + 1), (B + 1, 10, D)])
def test_components_that_do_not_match_the_feature(shape):
    with pytest.raises(ValueError, match=r"^components must have shape \(4, n, 6\), got"):
        divergence_loss(torch.randn(B, D), torch.randn(shape))


@pytest.mark.parametrize(
    ("components", "message"),
    [([[0.0]], "components must be a tensor, got list"), (torch.zeros(B, 10, D, dtype=torch.long), "floating dtype")],
)
def test_components_of_another_kind(components, message):
    with pytest.raises(TypeError, match=message):
        divergence_loss(torch.randn(B, D), components)


@pytest.mark.parametrize(
    ("selected", "error", "message"),
    [
        ([[0]], TypeError, "selected must be a tensor, got list"),
        (torch.zeros(B, 2), TypeError, "selected must be of an integer dtype, got torch.float32"),
        (torch.zeros(B, 2, dtype=torch.bool), TypeError, "selected must be of an integer dtype, got torch.bool"),
        (torch.zeros(B, 0, dtype=torch.long), ValueError, r"selected must have shape \(4, K\) with K >= 1"),
        (torch.zeros(B + 1, 2, dtype=torch.long), ValueError, r"selected must have shape \(4, K\)"),
        (torch.full((B, 2), 10), ValueError, r"selected must lie in \[0, 10\), the components"),
        (torch.full((B, 2), -1), ValueError, r"selected must lie in \[0, 10\), the components"),
    ],
)
def test_selections_that_are_none(selected, error, message):
    with pytest.raises(error, match=message):
        recompose(torch.randn(B, 10, D), selected)


def test_features_of_another_kind_are_refused_in_every_mode():
    rsc = MultimodalSelfCalibration({"audio": D})
    for mode in ("features", "mean"):
        with pytest.raises(ValueError, match=r"features\['audio'\] must have shape \(B, 6\), got \(4, 7\)"):
            represent(rsc, {"audio": torch.randn(B, D + 1)}, mode=mode)
        with pytest.raises(TypeError, match=r"features\['audio'\] must be of a floating dtype, got torch.int64"):
            represent(rsc, {"audio": torch.zeros(B, D, dtype=torch.long)}, mode=mode)


def test_figures_of_components_that_do_not_fit():
    reliability = torch.rand(B, 10)
    with pytest.raises(ValueError, match=r"reliability must have shape \(B, n\), got \(4,\)"):
        top_k(reliability[:, 0], reliability[:, 0], 3)
    with pytest.raises(ValueError, match=r"score must have shape \(4, 10\), got \(4, 9\)"):
        top_k(reliability, reliability[:, 1:], 3)
    with pytest.raises(ValueError, match=r"k must be at most the number of components \(10\), got 11"):
        top_k(reliability, reliability, 11)


def test_modalities_that_are_no_mapping_or_unknown():
    rsc = MultimodalSelfCalibration({"audio": D})
    h, labels = {"audio": torch.randn(B, D)}, torch.zeros(B, dtype=torch.long)
    heads, qhat = {"audio": nn.Linear(D, C)}, {"audio": torch.tensor(0.9)}
    with pytest.raises(TypeError, match=r"^heads must map each modality to its own, got list$"):
        rsc(h, labels, heads=[heads["audio"]], qhat=qhat)
    with pytest.raises(ValueError, match=r"only, got \['video'\] too$"):
        rsc(h | {"video": torch.randn(B, D)}, labels, heads=heads, qhat=qhat)
    for got, error, message in (
        (h["audio"], TypeError, "must map each modality to its own, got Tensor"),
        ({}, ValueError, r"at least one of the modalities \['audio'\] and no other, got \[\]"),
        (h | {"video": torch.randn(B, D)}, ValueError, r"and no other, got \['audio', 'video'\]"),
    ):
        with pytest.raises(error, match=message):
            represent(rsc, got, mode="features")


def test_mappings_name_the_modalities():
    dims = {"audio": 6, "text": 8}
    rsc = MultimodalSelfCalibration(dims)
    h = {m: torch.randn(B, d) for m, d in dims.items()}
    heads = {m: nn.Linear(d, C) for m, d in dims.items()}
    qhat = {m: torch.tensor(0.9) for m in dims}
    labels = torch.zeros(B, dtype=torch.long)
    message = re.escape("qhat must hold every modality, got ['audio'] without ['text']")
    with pytest.raises(ValueError, match=message):
        rsc(h, labels, heads=heads, qhat={"audio": qhat["audio"]})
    with pytest.raises(ValueError, match=message):
        represent(rsc, h, mode="collaborative", predict=lambda h: h, heads=heads, qhat={"audio": qhat["audio"]})
    known = r"features must hold at least one of the modalities \['audio', 'text'\] and no other"
    with pytest.raises(ValueError, match=known):
        represent(rsc, h | {"video": h["text"]}, mode="features")
    with pytest.raises(ValueError, match=known):
        represent(rsc, {}, mode="features")
    with pytest.raises(TypeError, match="mode 'collaborative' needs predict, heads and qhat, got no predict, qhat"):
        represent(rsc, h, mode="collaborative", heads=heads)
    with pytest.raises(ValueError, match="output of predict must have shape"):
        represent(rsc, h, mode="collaborative", predict=lambda h: h["text"].sum(-1), heads=heads, qhat=qhat)
    with pytest.raises(ValueError, match="mode must be one of 'features', 'mean', 'collaborative', got 'best'"):
        represent(rsc, h, mode="best")
    with pytest.raises(ValueError, match="dims must hold at least one modality, got none"):
        MultimodalSelfCalibration({})


def test_bins():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        diagnose(torch.zeros(B, 3), torch.zeros(B, 1, dtype=torch.long), bins=0)
