"""One process of the distributed test: train three steps on this rank's share of each batch, save the parameters."""

import sys
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from cpsc_rsc import RepresentationSelfCalibration

D, C, B = 8, 3, 12


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(5, D), nn.Linear(D, C)
        self.rsc = RepresentationSelfCalibration(D, components=6, top_k=2, residual=0.3, match_magnitude=True)

    def forward(self, x, labels, qhat):
        out = self.rsc(self.encoder(x), labels, head=self.head, qhat=qhat)
        return out.divergence + nn.functional.cross_entropy(self.head(out.recomposed), labels)


def main(rank, world, store, target):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Model().double()
    batches = [(torch.randn(B, 5, dtype=torch.float64), torch.randint(0, C, (B,))) for _ in range(3)]
    trained = model
    if world > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        trained = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, labels in batches:
        optimizer.zero_grad()
        trained(x[rank::world], labels[rank::world], torch.tensor(0.7)).backward()
        optimizer.step()
    torch.save(model.state_dict(), f"{target}.{rank}")
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
