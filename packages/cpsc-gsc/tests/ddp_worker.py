"""One process of a data-parallel run: trains every scenario on its shard of each batch and saves the parameters."""

import copy
import sys

import torch
from torch import distributed, nn, optim
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from cpsc_gsc import GradientSelfCalibration, gsc_loss

STEPS, BATCH, CLASSES = 8, 12, 3


class Streams(nn.Module):
    """Two encoders with heads; the prediction is the mean of the heads' logits."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(5, 6), nn.Tanh()) for m in ("audio", "image")})
        self.heads = nn.ModuleDict({m: nn.Linear(6, CLASSES) for m in self.encoders})

    def forward(self, x):
        logits = {m: self.heads[m](encoder(x[:, i])) for i, (m, encoder) in enumerate(self.encoders.items())}
        return logits, torch.stack(list(logits.values())).mean(0)


class Trunk(nn.Module):
    """Two encoders and a fusion of features; the unimodal heads stay outside, nothing but the hook trains them."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(5, 6), nn.Tanh()) for m in ("audio", "image")})
        self.fusion = nn.Linear(12, CLASSES)

    def forward(self, x):
        features = {m: encoder(x[:, i]) for i, (m, encoder) in enumerate(self.encoders.items())}
        return features, self.fusion(torch.cat(list(features.values()), -1))


def data():
    generator = torch.Generator().manual_seed(3)
    qhat = {m: torch.tensor(0.7, dtype=torch.float64) for m in ("audio", "image")}
    for _ in range(STEPS):
        x = torch.randn(BATCH, 2, 5, generator=generator, dtype=torch.float64)
        yield x, torch.randint(CLASSES, (BATCH,), generator=generator), qhat


def wrapped(module, world):
    return DistributedDataParallel(module) if world > 1 else module


def train_streams(method, rank, world, pieces):
    torch.manual_seed(0)
    model = Streams().double()
    parallel, optimizer = wrapped(model, world), optim.Adam(model.parameters(), lr=0.01)
    mode = "scale" if method == "scale" else "add"
    gsc = GradientSelfCalibration(encoders=model.encoders, mode=mode).attach(optimizer)
    for x, labels, qhat in data():
        optimizer.zero_grad()
        shards = [slice(i * world + rank, None, pieces * world) for i in range(pieces)]
        for last, rows in enumerate(shards, 1 - pieces):
            if world > 1:
                parallel.require_backward_grad_sync = last == 0
            unimodal, fused = parallel(x[rows])
            loss = cross_entropy(fused, labels[rows])
            if method == "loss":
                loss = loss + gsc_loss(unimodal, labels[rows], fused_logits=fused, qhat=qhat)
            else:
                gsc.observe(unimodal, labels[rows], fused_logits=fused, qhat=qhat)
            (loss / pieces).backward()
        optimizer.step()
    return model.state_dict()


def train_trunk(rank, world):
    torch.manual_seed(0)
    trunk = Trunk().double()
    heads = nn.ModuleDict({m: nn.Linear(6, CLASSES) for m in trunk.encoders}).double()
    parallel, optimizer = wrapped(trunk, world), optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)
    gsc = GradientSelfCalibration(encoders=trunk.encoders).attach(optimizer)
    for x, labels, qhat in data():
        rows = slice(rank, None, world)
        features, fused = parallel(x[rows])
        unimodal = {m: heads[m](h) for m, h in features.items()}
        gsc.observe(unimodal, labels[rows], fused_logits=fused, qhat=qhat)
        optimizer.zero_grad()
        cross_entropy(fused, labels[rows]).backward()
        optimizer.step()
    return trunk.state_dict() | {f"heads.{k}": v for k, v in heads.state_dict().items()}


def train_uneven(shard, process_group=None):
    """Nothing but the added gradient trains, on a part of each batch."""
    torch.manual_seed(0)
    model = Streams().double()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gsc = GradientSelfCalibration(encoders=model.encoders, process_group=process_group).attach(optimizer)
    for x, labels, qhat in data():
        unimodal, fused = model(x[shard])
        gsc.observe(unimodal, labels[shard], fused_logits=fused, qhat=qhat)
        optimizer.zero_grad()
        optimizer.step()
    return model.state_dict()


def main(rank, world, store, out):
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    results = {
        f"{method}-{pieces}": train_streams(method, rank, world, pieces)
        for method in ("loss", "add", "scale")
        for pieces in (1, 2)
    }
    shard = [slice(0, 9), slice(9, 12)][rank]
    alone = [distributed.new_group([other]) for other in range(world)][rank] if world > 1 else None
    results["trunk"] = train_trunk(rank, world)
    results["uneven"] = train_uneven(shard if world > 1 else slice(0, 12))
    results["own-group"] = train_uneven(shard, alone)
    torch.save(copy.deepcopy(results), out)
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
