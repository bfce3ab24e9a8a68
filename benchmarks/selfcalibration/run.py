"""RSC + GSC, forward and backward, against their matrix products alone and against Python loops.

    python benchmarks/selfcalibration/run.py --threads 1 --rounds 60

Times are medians of rounds in which every variant runs once, in turn, in one process: compare ratios.
"""

import argparse
import functools
import json
import platform
import sys
from pathlib import Path

import loops
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import medians

from cpsc_gsc import gsc_loss
from cpsc_rsc import MultimodalSelfCalibration, divergence_loss

B, N, D = 64, 10, 512
MODALITIES = ("audio", "image")


class Case:
    """Two modalities whose features need a gradient."""

    def __init__(self, classes: int) -> None:
        torch.manual_seed(0)
        published = {"residual": 1.0, "match_magnitude": False, "divergence": "kl"}  # what the loops compute
        self.rsc = MultimodalSelfCalibration(dict.fromkeys(MODALITIES, D), components=N, top_k=3, **published)
        self.heads = nn.ModuleDict({m: nn.Linear(D, classes) for m in MODALITIES})
        self.fusion = nn.Linear(D * len(MODALITIES), classes)
        self.features = {m: torch.randn(B, D, requires_grad=True) for m in MODALITIES}
        self.labels = torch.randint(0, classes, (B,))
        self.qhat = {m: torch.tensor(1 - 0.8 / classes) for m in MODALITIES}
        self.weights = {m: self.rsc[m].decomposition.net[0].weight for m in MODALITIES}
        self.ones = torch.ones(B, N * D)
        self.leaves = [*self.rsc.parameters(), *self.heads.parameters(), *self.fusion.parameters()]
        self.leaves += self.features.values()

    def floor(self) -> None:
        """Compute the matrix products that any version needs, and their backward."""
        outputs, kept = [], []
        for m, h in self.features.items():
            components = h @ self.weights[m].T
            with torch.no_grad():
                self.heads[m](components.view(B * N, D))
            kept.append(components[:, :D])
            outputs += [components, self.heads[m](kept[-1])]
        outputs.append(self.fusion(torch.cat(kept, dim=-1)))
        torch.autograd.backward(outputs, [self.ones if o.shape[1] == N * D else torch.ones_like(o) for o in outputs])

    def loss(self, *, check: bool | None = False) -> Tensor:
        """Return the loss of one step with the packages."""
        out = self.rsc(self.features, self.labels, heads=self.heads, qhat=self.qhat, check=check)
        logits = {m: self.heads[m](o.recomposed) for m, o in out.items()}
        fused = self.fusion(torch.cat([o.recomposed for o in out.values()], dim=-1))
        loss = cross_entropy(fused, self.labels) + sum(o.divergence for o in out.values())
        return loss + gsc_loss(logits, self.labels, fused_logits=fused, qhat=self.qhat, check=check)

    def loops(self, *, batched_pairs: bool) -> Tensor:
        """Return the same loss with loops."""
        return loops.step(
            self.features,
            self.labels,
            qhat=self.qhat,
            weights=self.weights,
            heads=self.heads,
            fusion=self.fusion,
            batched_pairs=batched_pairs,
        )

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the gradient of every leaf."""
        return list(torch.autograd.grad(loss, self.leaves))

    def clear(self) -> None:
        """Remove the gradients."""
        for leaf in self.leaves:
            leaf.grad = None


@functools.cache
def draw(n: str) -> tuple[Tensor, Tensor]:
    """Return a feature and n components, the same each time."""
    return torch.randn(B, D, requires_grad=True), torch.randn(B, int(n), D, requires_grad=True)


def divergence(n: str, kind: str) -> None:
    h, components = draw(n)
    torch.autograd.grad(divergence_loss(h, components, kind=kind), (h, components))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="file for the ratios to the floor")
    arguments = parser.parse_args()
    ratios = {}
    torch.set_num_threads(arguments.threads)
    rounds = arguments.rounds
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads, {rounds} rounds")

    print(f"\nRSC + GSC, forward + backward, B={B}, n={N}, d={D}, two modalities")
    for classes in (6, 31):
        case = Case(classes)
        ours = case.gradients(case.loss())
        for batched in (True, False):
            for mine, theirs in zip(ours, case.gradients(case.loops(batched_pairs=batched)), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        fast = {
            "floor": case.floor,
            "ours": lambda c=case: c.loss().backward(),
            "ours, values checked": lambda c=case: c.loss(check=None).backward(),
        }
        slow = {
            "ours": lambda c=case: c.loss().backward(),
            "loops over samples, pairs batched": lambda c=case: c.loops(batched_pairs=True).backward(),
            "loops over samples and pairs": lambda c=case: c.loops(batched_pairs=False).backward(),
        }
        t = medians(fast, rounds, before=case.clear, warmup=3)
        s = medians(slow, 5, before=case.clear)
        print(f"C={classes}: floor {1e3 * t['floor']:.2f} ms")
        for name in ("ours", "ours, values checked"):
            ratios[f"RSC + GSC, C = {classes}, {name}"] = t[name] / t["floor"]
            print(f"C={classes}: {name} {1e3 * t[name]:.2f} ms = {t[name] / t['floor']:.2f} x floor")
        for name in list(slow)[1:]:
            print(f"C={classes}: {name} {1e3 * s[name]:.0f} ms = {s[name] / s['ours']:.1f} x ours")

    if arguments.json:
        arguments.json.write_text(json.dumps(ratios), encoding="utf-8")
    print(f"\nDivergence, forward + backward, B={B}, d={D}")
    for kind in ("kl", "js"):
        t = medians({n: functools.partial(divergence, n, kind) for n in ("10", "80")}, rounds, warmup=3)
        print(f"{kind}: n=10 {1e3 * t['10']:.2f} ms, n=80 {1e3 * t['80']:.2f} ms = {t['80'] / t['10']:.1f} x")


if __name__ == "__main__":
    main()
