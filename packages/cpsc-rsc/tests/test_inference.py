import pytest
import torch
from torch import nn

from cpsc_rsc import MultimodalSelfCalibration, represent

B, C = 16, 4
DIMS = {"audio": 8, "text": 12}


def make():
    rsc = MultimodalSelfCalibration(DIMS, components=6, top_k=2)
    heads = nn.ModuleDict({m: nn.Linear(d, C) for m, d in DIMS.items()})
    return rsc, heads, {m: torch.randn(B, d) for m, d in DIMS.items()}, {m: torch.tensor(0.9) for m in DIMS}


def test_features_are_passed_on():
    rsc, _, h, _ = make()
    got = represent(rsc, h, mode="features")
    assert all(got[m] is h[m] for m in DIMS)


def test_mean_of_all_components():
    rsc, _, h, _ = make()
    got = represent(rsc, h, mode="mean")
    for m in DIMS:
        torch.testing.assert_close(got[m], rsc[m].components(h[m]).mean(1))


def test_collaborative_is_rsc_with_the_fused_prediction_for_a_label():
    rsc, heads, h, qhat = make()

    def predict(features):
        return sum(heads[m](x) for m, x in features.items())

    got = represent(rsc, h, mode="collaborative", predict=predict, heads=heads, qhat=qhat)
    expected = rsc(h, predict(h).argmax(-1), heads=heads, qhat=qhat)
    assert all(torch.equal(got[m], expected[m].recomposed) for m in DIMS)


def test_collaborative_runs_each_head_twice():
    rsc, heads, h, qhat = make()
    calls = []
    for m, head in heads.items():
        head.register_forward_hook(lambda *_, m=m: calls.append(m))
    represent(
        rsc,
        h,
        mode="collaborative",
        predict=lambda x: sum(heads[m](v) for m, v in x.items()),
        heads=heads,
        qhat=qhat,
    )
    assert sorted(calls) == ["audio", "audio", "text", "text"]


@pytest.mark.parametrize("mode", ["features", "mean", "collaborative"])
def test_a_missing_modality_is_left_out_and_changes_nothing_for_the_others(mode):
    torch.manual_seed(0)
    dims = {"audio": 6, "text": 8}
    rsc = MultimodalSelfCalibration(dims, components=4, top_k=2)
    heads = {m: torch.nn.Linear(d, 3) for m, d in dims.items()}
    qhat = {m: torch.tensor(0.9) for m in dims}
    features = {m: torch.randn(5, d) for m, d in dims.items()}
    fused = torch.randn(5, 3)
    options = {"mode": mode, "predict": lambda _: fused, "heads": heads, "qhat": qhat}
    every = represent(rsc, features, **options)
    alone = represent(rsc, {"text": features["text"]}, **options)
    assert list(alone) == ["text"]
    torch.testing.assert_close(alone["text"], every["text"], rtol=0, atol=0)
