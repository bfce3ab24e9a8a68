"""Two small streams with heads of their own and a fusion by concatenation, and the batches that they are trained on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

WIDTHS = {"audio": 6, "image": 5}
CLASSES = 4

# for `import fuzzing` and `import reference`; next to an unpacked sdist, the folder has a version
sys.path[:0] = map(str, Path(__file__).parents[2].glob("conformal[-_]core*/tests"))

hypothesis.settings.register_profile("gsc", max_examples=60, deadline=None)
hypothesis.settings.load_profile("gsc")


class TwoStreams(nn.Module):
    """The heads are reached by the unimodal losses only: fusion has weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, 8), nn.Tanh()) for m, d in WIDTHS.items()})
        self.heads = nn.ModuleDict({m: nn.Linear(8, CLASSES) for m in WIDTHS})
        self.fusion = nn.Linear(8 * len(WIDTHS), CLASSES)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        features = {m: self.encoders[m](x) for m, x in inputs.items()}
        return {m: self.heads[m](h) for m, h in features.items()}, self.fusion(torch.cat(list(features.values()), -1))


@dataclass
class Batch:
    inputs: dict[str, Tensor]
    labels: Tensor
    qhat: dict[str, Tensor]

    def rows(self, rows: slice) -> Batch:
        return Batch({m: x[rows] for m, x in self.inputs.items()}, self.labels[rows], self.qhat)

    def __len__(self) -> int:
        return len(self.labels)


def make_batches(steps: int, size: int = 12, dtype: torch.dtype = torch.float64) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    return [
        Batch(
            {m: torch.randn(size, d, generator=generator, dtype=dtype) for m, d in WIDTHS.items()},
            torch.randint(CLASSES, (size,), generator=generator),
            {m: 0.6 + 0.3 * torch.rand((), generator=generator, dtype=dtype) for m in WIDTHS},
        )
        for _ in range(steps)
    ]


class Operations(TorchDispatchMode):
    """Counts what is dispatched, and refuses what makes the host wait for values."""

    HOST = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "item")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or name in self.HOST:
            raise AssertionError(f"host sync by {func}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def watch() -> type[Operations]:
    return Operations


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors here are tiny: on a busy machine waiting for a second thread takes ten times as long as the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> TwoStreams:
    torch.manual_seed(0)
    return TwoStreams().double()


@pytest.fixture
def batches() -> list[Batch]:
    return make_batches(20)


def pytest_runtest_setup(item):
    """Before torch 2.9 its compiler stops at array-api-compat, and a fake device of CUDA asks for a real one."""
    if item.get_closest_marker("newer_torch") and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
        pytest.skip("needs torch 2.9")
