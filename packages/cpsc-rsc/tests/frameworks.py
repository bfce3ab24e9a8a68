"""Model, data and corruption that the tests of the callbacks of frameworks share."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cpsc_rsc import ConformalTrust, Taps
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles, TrustInputs


class Rows(Dataset):
    """Samples of two modalities, the first of which some lack."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 3
        shape = (count, 4)
        self.audio, self.image = (self.labels[:, None] + torch.randn(shape, generator=generator) for _ in range(2))
        self.has_audio = torch.rand(count, generator=generator) > 0.2

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        names = ("audio", "image", "labels", "has_audio")
        return {name: getattr(self, name)[row] for name in names}


def loader(count, seed):
    return DataLoader(Rows(count, seed), batch_size=25)


def corrupt(batch, modality, level):
    return batch | {modality: batch[modality] + level * torch.randn_like(batch[modality])}


class Calibrated(nn.Module):
    """Two modalities with dropout; `modes` records whether the calibration ran in training mode."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(4, 8), nn.ReLU()) for m in ("audio", "image")})
        self.heads = nn.ModuleDict({m: nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3)) for m in self.encoders})
        self.qhat = HeadQuantiles(self.heads, alpha=0.2)
        self.taps = {m: Taps(encoder) for m, encoder in self.encoders.items()}
        self.trust = ConformalTrust({m: t.widths(self.encoders[m], torch.zeros(2, 4)) for m, t in self.taps.items()})
        self.modes = []

    def logits(self, batch):
        return {m: head(self.encoders[m](batch[m])) for m, head in self.heads.items()}

    def head_outputs(self, batch):
        self.modes.append(self.training)
        return HeadOutputs(self.logits(batch), batch["labels"], {"audio": batch["has_audio"]})

    def trust_inputs(self, batch):
        tapped = {m: tap(self.encoders[m], batch[m]) for m, tap in self.taps.items()}
        features, depths = ({m: t[i] for m, t in tapped.items()} for i in (0, 1))
        return TrustInputs(features, depths, batch["labels"], {"audio": batch["has_audio"]})

    def fused_logits(self, features, present):
        return sum(self.heads[m](h) for m, h in features.items())

    def loss(self, batch):
        """Return the cross-entropy, times the quantiles once there are any."""
        losses = {m: nn.functional.cross_entropy(z, batch["labels"]) for m, z in self.logits(batch).items()}
        qhat = self.qhat() if self.qhat.calibrated else dict.fromkeys(losses, 1.0)
        return sum(qhat[m] * loss for m, loss in losses.items())
