"""The job of several processes that a launcher such as torchrun describes in environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cpsc_train.errors import UserError

PORTS = 2**16
DIGITS = 10
"""More digits than any number of processes, rank or port has."""


@dataclass(frozen=True)
class Launch:
    """Position of this process in its job."""

    rank: int = 0
    world_size: int = 1
    """Its number in [0, world_size), and the number of processes."""
    local_rank: int = 0
    local_world_size: int = 1
    """The same among the processes on this machine."""

    @classmethod
    def read(cls) -> Launch:
        """Read ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and ``LOCAL_WORLD_SIZE``; one process if they are not set.

        Raises UserError if one is not a number or out of range, or a job of several processes lacks a variable.
        """
        world_size = _number("WORLD_SIZE", least=1, default=1)
        if world_size > 1:
            _require_address(world_size)
        rank = _number("RANK", below=world_size, bound="WORLD_SIZE")
        local_world_size = _number("LOCAL_WORLD_SIZE", least=1, default=world_size)
        local_rank = _number("LOCAL_RANK", below=local_world_size, bound="LOCAL_WORLD_SIZE")
        return cls(rank, world_size, local_rank, local_world_size)


def is_main_process() -> bool:
    """Return whether this process prints: the first of a job, and any whose variables are wrong."""
    try:
        return Launch.read().rank == 0
    except UserError:
        return True


def require_one_process(command: str) -> None:
    """Raise UserError in a job of several processes, which would all do the work of the command."""
    if (processes := Launch.read().world_size) > 1:
        raise UserError(f"{command} needs one process, got {processes}: start it without torchrun")


def _require_address(world_size: int) -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE = {world_size} means {world_size} processes, but these are not set: {', '.join(missing)}; "
            "start them by torchrun, which sets all, or unset WORLD_SIZE"
        )
    _number("MASTER_PORT", below=PORTS, bound="the number of ports")


def _number(name: str, *, least: int = 0, default: int = 0, below: int | None = None, bound: str = "") -> int:
    """Return the integer in an environment variable; `bound` names the upper bound `below`."""
    text = os.environ.get(name)
    if text is None:
        return default
    cure = f"start the processes by torchrun, which sets it, or unset {name}"
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < DIGITS and int(digits) >= least):
        raise UserError(f"environment variable {name} must be a whole number of at least {least}, got {text!r}: {cure}")
    if below is not None and int(digits) >= below:
        unset = " because it is not set" if bound.isupper() and bound not in os.environ else ""
        rule = f"must be below {bound}, which is {below}{unset}"
        raise UserError(f"environment variable {name} {rule}, got {text!r}: {cure}")
    return int(digits)
