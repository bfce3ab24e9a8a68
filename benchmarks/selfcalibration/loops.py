"""RSC and GSC as one would first write them: a Python loop over samples, components and pairs.

Independent of the packages: the benchmark also checks that losses and gradients agree.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def divergence(h: Tensor, components: Tensor) -> Tensor:
    """L_div of a batch, pair by pair; batches of one sample make it sample by sample too."""
    n = components.shape[1]
    near = sum(kl(h, components[:, k]) for k in range(n)) / n
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return 0.8 * near - 0.2 * sum(kl(components[:, i], components[:, j]) for i, j in pairs) / len(pairs)


def reliability(logits: Tensor, label: int, qhat: float) -> tuple[float, float]:
    """Return reliability and score of a label for the logits (C,) of one component or sample."""
    scores = (1 - logits.softmax(-1)).tolist()
    inside = [s for s in scores if s <= qhat]
    own = scores[label]
    return (1 - sum(s < own for s in scores) / len(inside) if own <= qhat else 0.0), own


def step(
    features: dict[str, Tensor],
    labels: Tensor,
    *,
    qhat: dict[str, Tensor],
    weights: dict[str, Tensor],
    heads: dict[str, nn.Module],
    fusion: nn.Module,
    batched_pairs: bool,
) -> Tensor:
    """Return the loss of one step; `weights` are the decomposition matrices (n·d, d)."""
    loss = torch.zeros(())
    recomposed = {}
    for m, h in features.items():
        batch, dim = h.shape
        components = (h @ weights[m].T).relu().view(batch, -1, dim)
        if batched_pairs:
            loss = loss + divergence(h, components)
        else:
            loss = loss + sum(divergence(h[b : b + 1], components[b : b + 1]) for b in range(batch)) / batch
        rows = []
        for b in range(batch):
            with torch.no_grad():
                rated = [reliability(heads[m](c), int(labels[b]), qhat[m].item()) for c in components[b]]
            best = sorted(range(len(rated)), key=lambda k: (-rated[k][0], rated[k][1], k))[:3]
            rows.append(sum(components[b, k] for k in best) / 3)
        recomposed[m] = torch.stack(rows)
    fused = fusion(torch.cat(list(recomposed.values()), dim=-1))
    loss = loss + cross_entropy(fused, labels)
    for m, h in recomposed.items():
        logits = heads[m](h)
        for b in range(len(labels)):
            rho, _ = reliability(logits[b].detach(), int(fused[b].argmax()), qhat[m].item())
            loss = loss + (0.6 * rho + 0.6) * cross_entropy(logits[b], labels[b]) / len(labels)
    return loss
