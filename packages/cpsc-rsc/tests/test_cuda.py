"""On a GPU: the same numbers as on the host, and nothing that waits for the device. Skipped without one."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from conformal_core import CQR, LAC, AbsoluteResidual
from cpsc_rsc import ConformalTrust, RepresentationSelfCalibration, Taps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

B, D, C = 16, 8, 4


@contextlib.contextmanager
def waits_forbidden():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("score", "columns"), [(LAC(), C), (AbsoluteResidual(), 1), (CQR(), 2)])
def test_a_step_has_the_gradients_of_the_host(score, columns):
    torch.manual_seed(0)
    rsc = RepresentationSelfCalibration(D, components=5, top_k=2, score=score)
    head = nn.Linear(D, columns)
    if columns == 2:
        nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor([-1.0, 1.0])
    h, labels = torch.randn(B, D), torch.randint(0, C, (B,)) if columns == C else torch.randn(B)
    gradients = []
    for device in ("cpu", "cuda"):
        module, judge = copy.deepcopy(rsc).to(device), copy.deepcopy(head).to(device)
        moved, qhat = [x.to(device) for x in (h, labels)], torch.tensor(0.9, device=device)
        with waits_forbidden() if device == "cuda" else contextlib.nullcontext():
            out = module(moved[0], moved[1], head=judge, qhat=qhat, check=False)
            (out.divergence + judge(out.recomposed).square().mean()).backward()
        gradients.append([p.grad.cpu() for p in (*module.parameters(), *judge.parameters())])
    for here, there in zip(*gradients, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-6)


def test_the_trust_has_the_distances_of_the_host():
    torch.manual_seed(0)
    here = ConformalTrust({"audio": (4, D)}, alpha=0.1)
    there = copy.deepcopy(here).cuda()
    training, held_out, new = ((torch.randn(n, 4), torch.randn(n, D)) for n in (400, 200, B))
    for trust in (here, there):
        device = "cuda" if trust is there else "cpu"
        trust.update({"audio": tuple(h.to(device) for h in training)})
        trust.calibrate({"audio": tuple(h.to(device) for h in held_out)})
        trust._of["audio"].slope.fill_(1.5)
    new[0][0] = torch.nan
    asked, moved = tuple(3 * h for h in new), tuple(3 * h.cuda() for h in new)
    with waits_forbidden():
        distances, features = there.distances({"audio": moved}), there({"audio": moved[1]}, {"audio": moved})
    expected = here.distances({"audio": asked})["audio"]
    torch.testing.assert_close(distances["audio"].cpu(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features["audio"].cpu(), here({"audio": asked[1]}, {"audio": asked})["audio"])


def test_activations_are_those_of_the_host():
    torch.manual_seed(0)
    here = nn.Sequential(nn.Conv2d(3, D, 3), nn.ReLU(), nn.Conv2d(D, D, 3), nn.ReLU(), nn.Flatten()).double()
    there, x = copy.deepcopy(here).cuda(), torch.randn(B, 3, 6, 6).double()
    taps, moved = Taps(here), x.cuda()
    with waits_forbidden():
        features, depths = taps(there, moved)
    expected, pooled = taps(here, x)
    for actual, wanted in zip((features, *depths), (expected, *pooled), strict=True):
        torch.testing.assert_close(actual.cpu(), wanted)
