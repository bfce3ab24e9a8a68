"""Device, threads, precision, compilation and determinism of a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from cpsc_train.config.choice import COUNT, NOT_NEGATIVE, Options
from cpsc_train.data.processes import cores
from cpsc_train.errors import UserError, reason
from cpsc_train.launch import Launch

MOST_THREADS = 4096
"""OpenMP crashes with many more threads."""
MOST_WORKERS = 8
"""Largest default number of worker processes."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig(Options):
    """Device, threads, precision, compilation and determinism."""

    section = "compute"
    rules = {"threads": COUNT, "workers": NOT_NEGATIVE}

    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1`` and so on. ``auto`` uses a GPU if there is one. Under a launcher each process uses
    its own GPU."""
    threads: int | None = None
    """CPU threads of torch. If None, all cores. Results on a CPU repeat to the last digit only with the same number,
    since a sum depends on how it is split; small models are fastest with one."""
    workers: int | None = None
    """Processes that read samples in advance; 0 reads between steps, which is fastest for data in memory. If None, 0
    for data in memory, and one less than the number of cores (at least 1, at most 8) for samples decoded from files.
    Results do not depend on it."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """``bf16`` and ``fp16`` use autocast; ``fp16`` also scales the loss, which waits for the device once a step."""
    channels_last: bool = False
    """Whether images are stored channels last, which is faster for convolutions in half precision on GPUs."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Mode of ``torch.compile`` for training steps; ``reduce-overhead`` records CUDA graphs."""
    sharding: Literal["off", "encoders"] = "off"
    """``encoders`` splits parameters, gradients and the optimizer's state over all processes (FSDP2): each encoder is
    gathered when it is called. Each process keeps one more copy of the parameters for evaluation."""
    tf32: bool = False
    """Whether GPUs may round the factors of float32 products to 10 bits of mantissa."""
    deterministic: bool = False
    """Whether only deterministic algorithms are allowed; an operation without one raises an error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UserError(f"compute.threads must be at most {MOST_THREADS}, got {self.threads}")

    def worker_count(self, *, decoding: bool) -> int:
        """Return the number of worker processes; `decoding` is whether samples are decoded from files."""
        if self.workers is not None:
            return self.workers
        return max(1, min(MOST_WORKERS, cores() // Launch.read().local_world_size - 1)) if decoding else 0

    def open_device(self) -> torch.device:
        """Return the device of this process; raise UserError if it cannot be used."""
        if self.device in {"auto", "cuda"} and torch.cuda.is_available():
            return torch.device("cuda", own_gpu())
        if self.device == "auto":
            return torch.device("cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {self.device!r} cannot be used here: {reason(error)}") from None
        return device

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return a new autocast context of the configured precision.

        Its cache is off: before torch 2.11, a weight first used without gradient was cached without one and never
        trained.
        """
        kind = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype=kind, enabled=self.precision != "fp32", cache_enabled=False)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set the global options of torch, and restore them at the end."""
        threads = torch.get_num_threads()
        precision = torch.get_float32_matmul_precision()
        convolutions = torch.backends.cudnn.allow_tf32
        strict = torch.are_deterministic_algorithms_enabled()
        warn = torch.is_deterministic_algorithms_warn_only_enabled()
        try:
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = self.tf32
            if self.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
                torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.allow_tf32 = convolutions
            torch.use_deterministic_algorithms(strict, warn_only=warn)


def own_gpu() -> int:
    """Return the index of the GPU of this process: its local rank under a launcher, else the current device.

    Raises UserError if there is no such GPU.
    """
    if "LOCAL_RANK" not in os.environ:
        return torch.cuda.current_device()
    number, count = Launch.read().local_rank, torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"environment variable LOCAL_RANK must be below the number of GPUs, {count}, got '{number}': start one "
            "process a GPU, or take compute.device=cpu"
        )
    return number


def peak_memory(device: torch.device) -> float | None:
    """Return the peak memory in MiB of tensors on a GPU, or of the process on a CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)
