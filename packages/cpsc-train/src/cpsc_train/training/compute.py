"""Where and how numbers are computed: device, threads, precision, compilation, determinism."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from cpsc_train.data.processes import cores
from cpsc_train.errors import UserError, reason
from cpsc_train.launch import Launch

MOST_THREADS = 4096
"""More crash the library that starts them."""
MOST_READERS = 8
"""Processes that read ahead, unless a configuration asks for another number."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Where and how numbers are computed; what a run computes is decided elsewhere."""

    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``…; ``auto`` takes a GPU where there is one. Under a launcher each process takes its
    own GPU."""
    threads: int | None = None
    """CPU threads of torch; all cores if absent. A sum depends on how it is shared out, so that results on a CPU repeat
    to the last digit only with as many threads; small models are fastest with one."""
    workers: int | None = None
    """Processes that read samples ahead; 0 reads between steps, which is fastest for data in memory. If absent: none
    for data in memory; for samples that are decoded from files as many as there are cores, less one for training, at
    least 1 and at most 8. What a run computes does not depend on it."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """``bf16`` and ``fp16`` compute what tolerates it in half precision; ``fp16`` scales the loss, and its scaler waits
    for the device once a step."""
    channels_last: bool = False
    """Whether images lie with their channels last in memory, which convolutions on GPUs in half precision prefer."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Whether training steps go through ``torch.compile``; ``reduce-overhead`` records CUDA graphs."""
    tf32: bool = False
    """Whether GPUs may round the factors of float32 products to 10 bits."""
    deterministic: bool = False
    """Whether only algorithms that repeat to the last digit are allowed; a step that has none stops the run."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UserError(f"compute.threads must be at least 1, got {self.threads}")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UserError(f"compute.threads must be at most {MOST_THREADS}, got {self.threads}")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"compute.workers must not be negative, got {self.workers}")

    def readers(self, *, decoding: bool) -> int:
        """Return how many processes read samples ahead; `decoding` says whether samples are decoded from files."""
        if self.workers is not None:
            return self.workers
        return max(1, min(MOST_READERS, cores() // Launch.read().local_world - 1)) if decoding else 0

    def open_device(self) -> torch.device:
        """Return the device of this process.

        Raises
        ------
        UserError
            If it cannot be used here.
        """
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
        """Return a fresh context in which products are taken in the chosen precision.

        Its cache is off: before torch 2.11 a weight that is met without gradient first, as methods do to look at what a
        head says, was cached without one, and never learned.
        """
        kind = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype=kind, enabled=self.precision != "fp32", cache_enabled=False)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set what is global in torch, and set it back at the end."""
        threads = torch.get_num_threads()
        precision = torch.get_float32_matmul_precision()
        convolutions = torch.backends.cudnn.allow_tf32
        strict, warn = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
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
    """Return the number of the GPU of this process: that which a launcher gives it, or the current one.

    Raises
    ------
    UserError
        If there is no such GPU.
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
    """Return the most memory in MiB so far: of tensors on `device`, or of the process on a CPU; ``None`` if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # noqa: PLC0415  # Windows has none
    except ImportError:
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)
