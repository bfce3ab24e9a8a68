"""Bytes, operations and seconds of a run by arithmetic, from its sizes alone; nothing here imports torch.

All memory is that of one process. P is the number of parameters, W that of the processes, and numbers are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workload import Sharding, Workload

FLOAT, INDEX = 4, 8
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
MODALITIES = 2
HEADS = MODALITIES + 1


@dataclass(frozen=True)
class Machine:
    """Assumed rates of a GPU; none was measured."""

    flops: float = 50e12
    """Operations a second in float32 or TF32, sustained."""
    network: float = 10e9
    """Bytes a second that a GPU sends to another machine."""
    disk: float = 2e9
    """Bytes a second that a process writes to the file system."""


@dataclass(frozen=True)
class Convolutions:
    """Sums over the convolutions of a ResNet, for one image."""

    parameters: int
    """Parameters, those of batch normalisation included."""
    outputs: int
    """Numbers in all outputs."""
    multiplications: int
    normalised: int
    """Channels of all batch normalisations."""


def resnet(workload: Workload) -> Convolutions:
    """Return the sums for the backbone: a stem, then four stages of residual blocks."""
    deep = workload.depth >= 50
    layers = [(3, 64, 7, workload.side // 2)]  # input channels, output channels, kernel, side of the output
    channels, side = 64, workload.side // 4
    for stage, blocks in enumerate(BLOCKS[workload.depth]):
        width = 64 * 2**stage
        out = 4 * width if deep else width
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            before, side = side, side // stride
            if deep:
                layers += [(channels, width, 1, before), (width, width, 3, side), (width, out, 1, side)]
            else:
                layers += [(channels, width, 3, side), (width, out, 3, side)]
            if channels != out:
                layers.append((channels, out, 1, side))
            channels = out
    return Convolutions(
        sum(a * b * k * k + 2 * b for a, b, k, _ in layers),
        sum(b * s * s for _, b, _, s in layers),
        sum(a * b * k * k * s * s for a, b, k, s in layers),
        sum(b for _, b, _, _ in layers),
    )


def parameters(workload: Workload) -> dict[str, int]:
    """Return the number of parameters of each part."""
    d, pooled = workload.dim, 2048 if workload.depth >= 50 else 512
    projection = 0 if pooled == d else (pooled + 1) * d
    embeddings = (workload.vocabulary + workload.tokens + 2) * d + 2 * d
    return {
        "image encoder": resnet(workload).parameters + projection,
        "text encoder": embeddings + workload.layers * (12 * d * d + 13 * d),
        "heads": MODALITIES * (d + 1) * workload.classes,
        "RSC": MODALITIES * workload.components * d * d,
    }


def activations(workload: Workload) -> int:
    """Return the bytes of the activations that the encoders keep for the backward pass of one row.

    A convolution and its batch normalisation keep an output each; max-pooling an output and its indices. Of a token, a
    transformer layer keeps 16 vectors of width d and two dropout masks (float32 on a CPU), and attention, if it is not
    fused, three matrices of tokens × tokens for each attention head.
    """
    stem = 64 * (workload.side // 4) ** 2
    image = 2 * FLOAT * resnet(workload).outputs + (FLOAT + INDEX) * stem
    token = 18 * FLOAT * workload.dim
    attention = 3 * FLOAT * workload.attention_heads * workload.tokens
    return image + workload.tokens * workload.layers * (token + attention)


def operations(workload: Workload) -> float:
    """Return the floating-point operations of the forward pass of one row."""
    d, layer = workload.dim, 12 * workload.dim**2 + 2 * workload.tokens * workload.dim
    rsc = workload.components * (d * d + d * workload.classes)
    heads = MODALITIES * (2 * d * workload.classes + rsc)
    return 2.0 * (resnet(workload).multiplications + workload.tokens * workload.layers * layer + heads)


def memory(workload: Workload, world: int, sharding: Sharding) -> dict[str, float]:
    """Return the bytes on the device of a process in a step, by kind.

    Under FSDP2, the gathered parameters are those of the heads and RSC, and an encoder beside the result of its
    collective.
    """
    parts = {name: FLOAT * count for name, count in parameters(workload).items()}
    whole, encoders = sum(parts.values()), (parts["image encoder"], parts["text encoder"])
    own = whole / (1 if sharding == "off" else world)
    heads = HEADS * workload.batch * workload.classes * FLOAT
    return {
        "parameters": own,
        "gradients": own,
        "optimizer (Adam)": 2 * own,
        "copy for evaluation": 0 if sharding == "off" else whole,
        "gathered parameters": 0 if sharding == "off" else whole - sum(encoders) + 2 * max(encoders),
        "activations": workload.batch * activations(workload),
        "logits": heads,
        "component logits": workload.batch * workload.components * workload.classes * FLOAT,
    }


def peak(memory: dict[str, float]) -> float:
    """Return the peak of a step, of what `memory` returns: at the end of the forward pass.

    The gradients of DDP are there from the start, as parts of the buckets that are exchanged.
    """
    return sum(size for kind, size in memory.items() if kind != "copy for evaluation")


def step_traffic(workload: Workload, sharding: Sharding) -> dict[str, int]:
    """Return the bytes of the complete tensors of the collectives of a step, by kind.

    DDP sums the gradients. FSDP2 gathers each encoder for the forward and for the backward pass, and the rest, which
    stays gathered between them, once.
    """
    parts = {name: FLOAT * count for name, count in parameters(workload).items()}
    whole = sum(parts.values())
    if sharding == "off":
        return {"all-reduce": whole}
    encoders = parts["image encoder"] + parts["text encoder"]
    return {"all-gather": whole + encoders, "reduce-scatter": whole}


def refresh_traffic(workload: Workload, world: int, sharding: Sharding) -> dict[str, int]:
    """Return the bytes of a full refresh: the scores of all rows, one a head, and what FSDP2 gathers to compute them.

    It gathers the encoders for each batch of rows, and the rest once.
    """
    mine = ceil(workload.calibration / world)
    scores = HEADS * FLOAT * world * mine
    if sharding == "off":
        return {"all-gather": scores}
    parts = {name: FLOAT * count for name, count in parameters(workload).items()}
    encoders = parts["image encoder"] + parts["text encoder"]
    return {"all-gather": scores + sum(parts.values()) + (batches(workload, world) - 1) * encoders}


def batches(workload: Workload, world: int) -> int:
    """Return the batches in which a process scores its calibration rows: four times a batch of training each."""
    return ceil(ceil(workload.calibration / world) / (4 * workload.batch))


def calibration_memory(workload: Workload, world: int, limit: float = 2**30) -> dict[str, float]:
    """Return the bytes of the calibration rows of a process: scores and steps of all, and samples of its own part.

    A part of more than `limit` bytes (``conformal.memory_mib``) is read again at each refresh, a batch at a time.
    """
    row = FLOAT * 3 * workload.side**2 + INDEX * (workload.tokens + 2)
    mine = row * ceil(workload.calibration / world)
    return {
        "calibration scores": HEADS * (FLOAT + INDEX) * workload.calibration,
        "calibration samples": mine if mine <= limit else row * 4 * workload.batch,
    }


def evaluation_memory(workload: Workload, world: int) -> dict[str, float]:
    """Return the bytes that a process keeps of the rows that it evaluates: features, and logits of all heads."""
    mine = FLOAT * ceil(workload.evaluated / world)
    return {
        "evaluated features": MODALITIES * workload.dim * mine,
        "evaluated logits": HEADS * workload.classes * mine,
    }


def table_memory(workload: Workload) -> dict[str, int]:
    """Return the bytes of what a process knows of all rows: ids of 17 characters, labels, splits, and an order."""
    return {name: size * workload.rows for name, size in (("ids", 17 + 4), ("labels", 8), ("splits", 8), ("order", 8))}


def checkpoint(workload: Workload) -> int:
    """Return the bytes of parameters and of the optimizer's state (Adam) in a checkpoint."""
    return 3 * FLOAT * sum(parameters(workload).values())
