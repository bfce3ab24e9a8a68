"""What every compared method must hold to: probabilities of 0 and 1, real data, a pause, several batches."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from cpsc_train import train
from cpsc_train.config import apply_settings
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig, PartFeatures
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

MODALITIES = ("a", "b")
ROWS, CLASSES, DIM = 12, 3, 4
COMPARED = (
    "ogm-ge",
    "agm",
    "pmr",
    "mmpareto",
    "mla",
    "lfm",
    "arl",
    "iprm",
    "qmf",
    "tmc",
    "ecml",
    "pdf",
    "reconboost",
    "di-mml",
    "relearning",
    "smv",
    "modality-dropout",
    "dgl",
    "mnl",
    "inforeg",
    "dbf",
    "conformal-training",
    "eau",
)


@pytest.mark.parametrize("name", COMPARED)
def test_probabilities_of_nought_and_one(name, model, batch, step, alone):
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.mul_(1e4)
    method = MethodConfig.named(name)().build(model, MODALITIES)
    method.on_fit_start(ROWS)
    features = {m: h.detach().numpy() for m, h in model.encode(batch[0]).items()}
    for epoch in range(30):
        method.on_epoch_start(epoch, alone)
        shown = PartFeatures(features, batch[1].numpy())
        method.on_features(model, dict.fromkeys(method.features_needed(epoch), shown)) if method.features_needed(
            epoch
        ) else None
        out = step(method, model, batch)
    assert all(torch.isfinite(term) for term in out.terms.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", COMPARED)
def test_it_trains_on_handwritten(name, tmp_path):
    changes = [f"method.name={name}", "epochs=6", "noise=[]"]
    config = apply_settings(recipe("handwritten", inference=()), changes)
    results = train(config, tmp_path / "run")
    assert results["test"]["clean"]["accuracy"][FUSED] > 0.85
    assert set(results["test"]) == {"clean", "without-pix", "without-fou"}


REMEMBERING = {
    "ogm-ge": [],
    "agm": [],
    "mla": [],
    "lfm": [],
    "qmf": [],
    "iprm": [],
    "pmr": [],
    "tmc": [],
    "reconboost": ["method.epochs=1", "method.together=0"],
    "di-mml": ["method.start=1"],
    "relearning": ["method.every=1"],
    "smv": ["method.warmup=1"],
    "modality-dropout": [],
    "inforeg": ["method.window=1"],
    "dbf": [],
    "eau": [],
}
"""By name, settings that make what is remembered count in the second epoch."""


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_it_remembers_survives_a_pause(name):
    changes = [f"method.name={name}", "epochs=6", "noise=[]", *REMEMBERING[name]]
    config = apply_settings(recipe("handwritten", inference=()), changes)
    whole = Trainer(Setup.build(config))
    whole.train_epoch(Observer())
    state = deepcopy(whole.state_dict())
    expected = whole.train_epoch(Observer())["loss"]
    paused = Trainer(Setup.build(config))
    paused.load_state_dict(state)
    assert paused.train_epoch(Observer())["loss"] == expected


@pytest.mark.parametrize(
    "name", ["ogm-ge", "mmpareto", "qmf", "lfm", "pdf", "relearning", "reconboost", "inforeg", "dgl", "mnl"]
)
def test_two_batches_make_the_step_of_one(name, model, batch, step, alone, gradients):
    """`on_before_optimizer_step` sees the whole step; QMF ranks within a batch, so its ranking is left out.

    IPRM mixes by the weight of a batch, so it is not among them.
    """
    inputs, labels = batch
    options = {"ogm-ge": {"noise": False}, "qmf": {"ranking": 0.0}}.get(name, {})
    build = MethodConfig.named(name)(**options).build
    one, two = (build(model, MODALITIES) for _ in range(2))
    two.load_state_dict(one.state_dict())
    for method in (one, two):
        method.on_fit_start(ROWS)
    step(one, model, batch)
    whole = gradients(model.encoders["a"]).clone()
    model.zero_grad()
    notes = []
    for half in (slice(0, 6), slice(6, 12)):
        two.on_batch_start(torch.arange(ROWS)[half])
        out = two.losses(model, model.encode({m: x[half] for m, x in inputs.items()}), labels[half], None)
        two.backward(model, out.terms, lambda loss: (loss / 2).backward())
        notes += [] if two.notes() is None else [two.notes()]
    two.on_before_optimizer_step(model, alone)
    if notes:
        two.remember(torch.arange(ROWS), torch.cat(notes))
    torch.testing.assert_close(gradients(model.encoders["a"]), whole, rtol=1e-4, atol=1e-7)
    for value, other in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ogm-ge", {"alpha": -1.0}, r"method\.alpha"),
        ("ogm-ge", {"start": 5, "end": 2}, r"method\.start"),
        ("mmpareto", {"strength": 0.0}, r"method\.strength"),
        ("tmc", {"annealing": 0}, r"method\.annealing"),
        ("ecml", {"conflict": -0.1}, r"method\.conflict"),
        ("qmf", {"ranking": -0.1}, r"method\.ranking"),
        ("iprm", {"decay": 1.0}, r"method\.decay"),
        ("pmr", {"momentum": 1.0}, r"method\.momentum"),
        ("agm", {"alpha": -1.0}, r"method\.alpha"),
        ("mla", {"alpha": 0.0}, r"method\.alpha"),
        ("lfm", {"start": 1.0}, r"method\.start"),
        ("lfm", {"rate": -1.0}, r"method\.rate"),
        ("lfm", {"epochs": 0}, r"method\.epochs"),
        ("arl", {"temperature": -1.0}, r"method\.temperature"),
        ("arl", {"unimodal": -1.0}, r"method\.unimodal"),
        ("arl", {"start": -1}, r"method\.start"),
        ("reconboost", {"epochs": 0}, r"method\.epochs"),
        ("reconboost", {"together": -1}, r"method\.together"),
        ("reconboost", {"reconcile": 5.0}, r"method\.reconcile"),
        ("reconboost", {"consolidation": -1.0}, r"method\.consolidation"),
        ("di-mml", {"start": 0}, r"method\.start"),
        ("di-mml", {"shared": -1.0}, r"method\.shared"),
        ("di-mml", {"certainty": 0.0}, r"method\.certainty"),
        ("relearning", {"every": 0}, r"method\.every"),
        ("relearning", {"strength": -1.0}, r"method\.strength"),
        ("smv", {"warmup": 0}, r"method\.warmup"),
        ("smv", {"most": -1}, r"method\.most"),
        ("modality-dropout", {"probability": 1.0}, r"method\.probability"),
        ("dgl", {"alpha": 0.0}, r"method\.alpha"),
        ("mnl", {"weight": -1.0}, r"method\.weight"),
        ("inforeg", {"window": 0}, r"method\.window"),
        ("inforeg", {"strength": -1.0}, r"method\.strength"),
        ("inforeg", {"growth": -1.0}, r"method\.growth"),
        ("dbf", {"exponent": 0.0}, r"method\.exponent"),
        ("conformal-training", {"alpha": 1.0}, r"method\.alpha"),
        ("conformal-training", {"temperature": 0.0}, r"method\.temperature"),
        ("conformal-training", {"width": 0.0}, r"method\.width"),
        ("conformal-training", {"size": -1.0}, r"method\.size"),
        ("eau", {"latent": 0}, r"method\.latent"),
        ("eau", {"contrast": -1.0}, r"method\.contrast"),
    ],
)
def test_bad_options(name, options, said):
    with pytest.raises(UserError, match=said):
        MethodConfig.named(name)(**options)
