"""Training of one objective by several processes: replicas (DDP), or encoders in shards (FSDP2).

Checkpoints contain the parts that each process has (`cpsc_train.training.checkpoints`).
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any

from torch import Tensor, nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from cpsc_train.errors import UserError, reason
from cpsc_train.methods import Method
from cpsc_train.models.inputs import split_spectrogram
from cpsc_train.training.objective import Objective
from cpsc_train.training.setup import Setup

GRADIENT_HOOKS = ("backward", "on_before_optimizer_step", "on_step_start", "on_refresh")
"""Methods of `Method` that read or change parameters or gradients, which a process has only parts of."""


def static_graph(setup: Setup) -> bool:
    """Return whether every training step uses the same parameters, apart from the change at the end of warm-up."""
    config = setup.config
    modules = config.fusion.static_graph and all(encoder.static_graph for encoder in config.encoders.values())
    drops = any(map(_drops_layers, setup.objective.modules()))
    return setup.objective.method.static_graph and modules and not drops


def trained(setup: Setup) -> Objective:
    """Return the objective to train: that of the setup or, if it is sharded, a sharded copy.

    Encoders, and the rest as a whole, are sharded over all processes; one process has everything. Raises UserError for
    a run that cannot be sharded.
    """
    if setup.config.compute.sharding == "off":
        return setup.objective
    _check(setup)
    if setup.process.world == 1:
        return setup.objective
    objective = deepcopy(setup.objective)
    mesh = init_device_mesh(setup.device.type, (setup.process.world,))
    try:
        for encoder in objective.model.encoders.values():
            part = split_spectrogram(encoder)[1]  # the module that is called
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh)
        fully_shard(objective, mesh=mesh)
    except (ValueError, NotImplementedError) as error:  # such as a parameter without dimensions
        raise UserError(f"compute.sharding=encoders cannot shard this model: {reason(error)}") from None
    register_fsdp_forward_method(objective, "calibration_logits")
    return objective


def replicated(objective: Objective, *, static: bool) -> Any:
    """Return the objective with gradients that are averaged over all processes.

    Unless its graph is `static`, each step searches it for parameters without a gradient.
    """
    parallel = nn.parallel.DistributedDataParallel
    devices = [objective.device.index] if objective.device.type == "cuda" else None
    # The loop synchronises buffers itself; older versions of torch have another name for the option.
    known = inspect.signature(parallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False, "static_graph" if static else "find_unused_parameters": True}
    # Gradients are views of what is exchanged, so there is no second copy of them.
    return parallel(objective, device_ids=devices, gradient_as_bucket_view=True, **options)


def sharded(module: nn.Module) -> bool:
    """Return whether the parameters of a module are sharded."""
    return isinstance(module, FSDPModule)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor whose parts all processes have; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def state_of(objective: Objective) -> dict[str, Any]:
    """Return the state of the objective, with complete tensors; every process must call this."""
    return {name: whole_tensor(value) for name, value in objective.state_dict().items()}


def sharded_tensors(objective: Objective, optimizer: optim.Optimizer) -> dict[str, DTensor]:
    """Return the tensors of which this process has a part, by their path in the state of a trainer.

    A parameter also stands for the state that the optimizer keeps of it, under the path of that state.
    """
    tensors = {f"objective/{name}": tensor for name, tensor in objective.state_dict().items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors |= {f"stepper/optimizer/state/{i}": parameter for i, parameter in enumerate(parameters)}
    return {path: tensor for path, tensor in tensors.items() if isinstance(tensor, DTensor)}


def _drops_layers(module: nn.Module) -> bool:
    """Return whether a model of transformers leaves out whole layers at random in training."""
    config = getattr(module, "config", None)
    return any(getattr(config, name, 0) for name in ("layerdrop", "encoder_layerdrop"))


def _check(setup: Setup) -> None:
    """Raise UserError, with one sentence, for a run that cannot be sharded."""
    config, method = setup.config, setup.objective.method
    changed = any(getattr(type(method), name) is not getattr(Method, name) for name in GRADIENT_HOOKS)
    name = config.method.name
    for refused, why in (
        (config.compute.compile != "off", "does not support compute.compile: take compute.compile=off"),
        (config.compute.precision == "fp16", "does not support compute.precision=fp16: take bf16"),
        (config.ema > 0, "does not support a moving average: take ema=0"),
        (changed, f"does not support method {name}, which reads or changes parameters or gradients"),
        (not static_graph(setup), f"needs the same parameters in every step, which {name} or its encoders vary"),
        (
            any(method.features_needed(epoch) for epoch in range(config.epochs)),
            f"does not support these options of method {name}, which inspect all features before an epoch",
        ),
    ):
        if refused:
            raise UserError(f"compute.sharding=encoders {why}, or compute.sharding=off")
