"""Late-fusion model and toy data for the examples, without any code from this project."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CLASSES = 4


class LateFusion(nn.Module):
    """One encoder and one linear head per modality; the fused logits are the mean of the unimodal logits."""

    def __init__(self, encoders: Mapping[str, nn.Module], dims: Mapping[str, int]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.heads = nn.ModuleDict({m: nn.Linear(dim, CLASSES) for m, dim in dims.items()})

    def features(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features (B, d_m) of each modality."""
        return {m: encoder(inputs[m]) for m, encoder in self.encoders.items()}

    def classify(self, features: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits (B, C) of each modality, and the fused logits (B, C)."""
        logits = {m: head(features[m]) for m, head in self.heads.items()}
        return logits, torch.stack(list(logits.values())).mean(0)


def draw_labels(count: int, seed: int) -> Tensor:
    """Draw uniform class labels."""
    return torch.randint(0, CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


def draw_signal(labels: Tensor, shape: tuple[int, ...], *, noise: float, seed: int) -> Tensor:
    """Draw one array per label: the fixed pattern of its class for this shape, plus Gaussian noise."""
    patterns = torch.randn(CLASSES, *shape, generator=torch.Generator().manual_seed(sum(shape)))
    return patterns[labels] + noise * torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(seed))


def draw_tokens(labels: Tensor, length: int, *, seed: int) -> Tensor:
    """Draw one sequence of token ids per label; each token is that of the class with probability ½."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(CLASSES, 10 * CLASSES, (len(labels), length), generator=generator)
    return torch.where(torch.rand(len(labels), length, generator=generator) < 0.5, labels.unsqueeze(1), noise)
