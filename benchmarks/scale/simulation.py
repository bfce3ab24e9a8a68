"""A process of a job of any size, simulated: its collectives and its memory are counted, nothing is computed.

Tensors are fake: they have shapes, but no memory. The process group is torch's fake one, which completes every
collective at once. Everything else is the code that trains: `Stepper`, `Refresh`, DDP and FSDP2 on a CPU. What that
code needs from real tensors is replaced here, and only here.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import distributed, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.testing._internal.distributed import fake_pg  # noqa: F401  # registers the backend
from torch.utils._python_dispatch import TorchDispatchMode
from traffic import Traffic, bytes_of, counting
from workload import Sharding, Workload, thresholds

from cpsc_train.data import Batch
from cpsc_train.training import RunConfig, parallel
from cpsc_train.training.calibration_share import CalibrationShare
from cpsc_train.training.distributed import current
from cpsc_train.training.refresh import Refresh
from cpsc_train.training.step import Stepper

KINDS = {"Parameter": "parameters", "Sharded Param": "parameters", "Gradient": "gradients", "Sharded Grad": "gradients"}
KINDS |= {"Optstate": "optimizer (Adam)", "OptState": "optimizer (Adam)", "Total": "peak"}


@dataclass(frozen=True)
class Simulated:
    """Counts of one step and of one full refresh of one process."""

    memory: dict[str, int]
    """Bytes by kind after the step, and at the ``peak`` of the step and of the ``refresh``."""
    step: Traffic
    """Collectives of the step."""
    refresh: Traffic
    """Collectives of the refresh."""
    buckets: int
    """Buckets in which DDP exchanges gradients from its third step on; 0 for FSDP2."""


def simulate(workload: Workload, world: int, sharding: Sharding) -> Simulated:
    """Return the counts of the second step after warm-up, and of a refresh."""
    with ExitStack() as stack:
        stack.enter_context(_job(world))
        fake = FakeTensorMode()
        with fake:
            config = workload.config(world, sharding)
            setup = workload.setup(config, workload.objective(config))
            batch = workload.generated(workload.batch)
            qhat = thresholds()
        stepper = Stepper(setup)  # a mesh of devices is made of real tensors
        stepper.objective.train()
        stack.enter_context(fake)
        with _AllUsed():  # the first step makes the state of the optimizer, and DDP treats it differently
            stepper.step([batch], [1.0], [config.batch_size], qhat)
            tracker = _tracker(stepper, [*batch.inputs.values(), batch.labels, batch.rows])
            with counting() as step, tracker:
                stepper.step([batch], [1.0], [config.batch_size], qhat)
        memory = {KINDS[name]: size for name, size in _snapshot(tracker, "current").items() if name in KINDS}
        memory["peak"] = _snapshot(tracker, "peak")["Total"]
        sharded = stepper.objective is not setup.objective
        memory["copy for evaluation"] = bytes_of(setup.objective.parameters()) if sharded else 0
        refresh, memory["refresh"] = _refresh(workload, stepper, config)
        return Simulated(memory, step, refresh, 0 if sharded else _buckets(setup.objective))


class _Generated(CalibrationShare):
    """Samples that are made when they are read."""

    device = torch.device("cpu")

    def __init__(self, workload: Workload, tracker: MemTracker, **options: Any) -> None:
        super().__init__(total=workload.calibration, **options)
        self._workload, self._tracker = workload, tracker

    def read(self, first: int, count: int) -> Iterator[Batch]:
        for portion in self.portions(first, count):
            self._tracker.reset_mod_stats()  # a tracker expects one call of a model
            yield self._workload.generated(len(portion))


def _refresh(workload: Workload, stepper: Stepper, config: RunConfig) -> tuple[Traffic, int]:
    """Return the collectives and the peak memory of a full refresh."""
    tracker, process = _tracker(stepper, []), current()
    samples = _Generated(workload, tracker, process=process, most=4 * workload.batch)
    refresh = Refresh(
        samples, config.conformal, batch_size=config.batch_size, score=stepper.objective.calibration_logits
    )
    with counting() as traffic, tracker:
        refresh.start_epoch()
    return traffic, _snapshot(tracker, "peak")["Total"]


def _snapshot(tracker: MemTracker, which: str) -> dict[str, int]:
    (snapshot,) = tracker.get_tracker_snapshot(which).values()
    return {str(getattr(kind, "value", kind)): size for kind, size in snapshot.items()}


@contextmanager
def _job(world: int) -> Iterator[None]:
    """Join a fake job as its first process, and make the code that trains work on fake tensors."""
    distributed.init_process_group("fake", rank=0, world_size=world)
    scores = [module for name, module in sys.modules.items() if name.startswith("conformal_core")]
    replaced: list[tuple[Any, str, Any]] = [
        (FakeTensor, "__deepcopy__", _copied),
        # DDP compares shapes between processes, and copies parameters; its own reduction waits for a real result.
        (nn.parallel.distributed, "_verify_param_shape_across_processes", lambda *_, **__: None),
        (nn.parallel.distributed, "_sync_module_states", lambda *_, **__: None),
        (parallel, "replicated", _replicated),
        # Scores of a CPU are computed by numpy, those of other devices by torch.
        *((module, "host_view", lambda _: None) for module in scores if hasattr(module, "host_view")),
    ]
    with ExitStack() as stack:
        stack.callback(distributed.destroy_process_group)
        for owner, name, value in replaced:
            stack.enter_context(patch.object(owner, name, value, create=True))
        yield


def _copied(tensor: Any, memo: dict[int, Any]) -> Any:
    copy = tensor.detach().clone()
    memo[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
    return memo[id(tensor)]


_REPLICATED = parallel.replicated


def _replicated(objective: Any, *, static: bool) -> Any:
    module = _REPLICATED(objective, static=static)
    module.register_comm_hook(None, _reduce)
    return module


def _reduce(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    distributed.all_reduce(bucket.buffer())
    future.set_result(bucket.buffer())
    return future


class _AllUsed(TorchDispatchMode):
    """Answers DDP, which asks whether a parameter was used by any process: yes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.int32:
            return 1
        return func(*args, **(kwargs or {}))


def _tracker(stepper: Stepper, inputs: list[torch.Tensor]) -> MemTracker:
    if parallel.sharded(stepper.objective):
        sharded = FSDPMemTracker(stepper.objective, stepper.optimizer)
        sharded.track_inputs(tuple(inputs))
        return sharded
    tracker = MemTracker()
    tracker.track_external(stepper.objective, stepper.optimizer, *inputs)
    return tracker


def _buckets(objective: nn.Module) -> int:
    """Return the number of buckets of DDP once it has seen the order of the gradients: 1 MiB, then 25 MiB each."""
    limits = [distributed._DEFAULT_FIRST_BUCKET_BYTES, 25 * 2**20]
    trained = [p for p in reversed(list(objective.parameters())) if p.requires_grad]
    return len(distributed._compute_bucket_assignment_by_size(trained, limits)[0])
