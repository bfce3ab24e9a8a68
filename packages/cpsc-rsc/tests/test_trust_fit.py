"""Fit of a trust to batches: equal to the steps by hand, with missing modalities, again, and bad use."""

import copy

import pytest
import torch
from torch import nn

from cpsc_rsc import ConformalTrust, HeldOutCopy, Taps
from cpsc_rsc.callbacks import CORRUPTION_LEVELS, TrustInputs, evaluating, fit_trust

NAMES = ("audio", "image")
CENTRES = torch.randn(3, 6, generator=torch.Generator().manual_seed(5)) * 1.5


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5)) for m in NAMES})
        self.heads = nn.ModuleDict({m: nn.Linear(8, 3) for m in NAMES})
        self.taps = {m: Taps(encoder, ["input", ""]) for m, encoder in self.encoders.items()}
        self.trust = ConformalTrust(dict.fromkeys(NAMES, (6, 8)), alpha=0.1)

    def trust_inputs(self, batch):
        inputs, labels, present = batch
        tapped = {m: self.taps[m](self.encoders[m], inputs[m]) for m in NAMES}
        return TrustInputs({m: t[0] for m, t in tapped.items()}, {m: t[1] for m, t in tapped.items()}, labels, present)

    def fused_logits(self, features, present):
        logits = {m: self.heads[m](h) * present.get(m, torch.ones(len(h)))[:, None] for m, h in features.items()}
        return sum(logits.values())


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for batch in batches(0, 4) * 15:
        loss = nn.functional.cross_entropy(model.fused_logits(model.trust_inputs(batch).features, {}), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture
def model(trained):
    return copy.deepcopy(trained)


def batches(seed, count, missing=0.0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        labels = torch.randint(3, (80,), generator=generator)
        inputs = {m: CENTRES[labels] + torch.randn(80, 6, generator=generator) for m in NAMES}
        masks = {"audio": torch.rand(80, generator=generator) >= missing} if missing else {}
        if missing:
            inputs["audio"] = torch.where(masks["audio"][:, None], inputs["audio"], 1000.0)  # finite, and no input
        made.append((inputs, labels, masks))
    return made


def corrupt(batch, modality, level):
    inputs, labels, present = batch
    noise = torch.randn(inputs[modality].shape, generator=torch.Generator().manual_seed(level))
    return inputs | {modality: inputs[modality] + level * noise}, labels, present


def test_the_fit_is_that_of_the_steps_by_hand(model):
    by_hand, training, held_out = copy.deepcopy(model), batches(1, 3), batches(2, 1)
    fit_trust(model, training, held_out, corrupt)
    assert model.training
    trust = by_hand.trust
    with evaluating(by_hand):
        for batch in training:
            trust.update(by_hand.trust_inputs(batch).depths)
        trust.calibrate(by_hand.trust_inputs(held_out[0]).depths)
        noisy = [corrupt(held_out[0], m, level) for m in NAMES for level in CORRUPTION_LEVELS]
        noisy += [corrupt(corrupt(held_out[0], "audio", level), "image", level) for level in CORRUPTION_LEVELS[1:]]
        copies = []
        for batch in (held_out[0], *noisy):
            rows = by_hand.trust_inputs(batch)
            distances = trust.distances(rows.depths)
            clean = batch is held_out[0]
            copies.append(HeldOutCopy(features=rows.features, distances=distances, labels=rows.labels, clean=clean))
    trust.fit_curve(copies, by_hand.fused_logits)
    for name, value in trust.state_dict().items():
        torch.testing.assert_close(model.trust.state_dict()[name], value)


def test_a_corrupted_modality_is_down_weighted_and_a_clean_one_is_not(model):
    fit_trust(model, batches(1, 3), batches(2, 3), corrupt)
    with evaluating(model):
        clean, noisy = (model.trust_inputs(b) for b in (batches(3, 1)[0], corrupt(batches(3, 1)[0], "audio", 5)))
        assert model.trust.weights(clean.depths)["audio"].mean() > 0.9
        assert model.trust.weights(noisy.depths)["audio"].mean() < 0.6
        assert model.trust.weights(noisy.depths)["image"].mean() > 0.9


def audio_depths(model, parts):
    """Activations of the rows that have audio."""
    with evaluating(model):
        rows = [model.trust_inputs(batch) for batch in parts]
    masks = [r.present.get("audio", torch.ones(80, dtype=torch.bool)) for r in rows]
    return {"audio": [torch.cat([r.depths["audio"][k][m] for r, m in zip(rows, masks, strict=True)]) for k in (0, 1)]}


def test_rows_without_a_modality_have_no_effect_on_its_distances(model):
    masked, without = batches(1, 3, missing=0.4), batches(2, 3, missing=0.4)
    fit_trust(model, masked, without, corrupt)
    expected = ConformalTrust({"audio": (6, 8)}, alpha=0.1)
    expected.update(audio_depths(model, masked))
    expected.calibrate(audio_depths(model, without))
    asked = audio_depths(model, batches(3, 1))
    torch.testing.assert_close(model.trust.distances(asked)["audio"], expected.distances(asked)["audio"])


def test_a_second_fit_forgets_the_first(model):
    again = copy.deepcopy(model)
    fit_trust(again, batches(8, 2), batches(9, 2), corrupt)
    for one in (model, again):
        fit_trust(one, batches(1, 3), batches(2, 3))
    for name, value in model.trust.state_dict().items():
        torch.testing.assert_close(again.trust.state_dict()[name], value)
    assert (model.trust.trust({"audio": torch.tensor([5.0])})["audio"] == 1).all()  # no corruption: no curve


def test_the_curve_is_fitted_without_autocast(model):
    full = copy.deepcopy(model)
    fit_trust(full, batches(1, 3), batches(2, 3), corrupt)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fit_trust(model, batches(1, 3), batches(2, 3), corrupt)
    distance = {m: torch.linspace(0, 3, 7) for m in NAMES}
    for m, g in full.trust.trust(distance).items():
        torch.testing.assert_close(model.trust.trust(distance)[m], g, atol=0.05, rtol=0)


def test_bad_use_changes_nothing(model):
    before = {name: value.clone() for name, value in model.trust.state_dict().items()}
    with pytest.raises(ValueError, match="held_out must hold at least one batch each time"):
        fit_trust(model, batches(1, 3), iter(batches(2, 3)), corrupt)
    with pytest.raises(ValueError, match="no training rows"):
        fit_trust(model, [], batches(2, 3))
    with pytest.raises(TypeError, match="must be a ConformalTrust, got NoneType"):
        fit_trust(nn.Linear(1, 1), [], [])
    assert model.training
    for name, value in model.trust.state_dict().items():
        assert torch.equal(before[name], value)
