"""The job that a launcher such as torchrun describes in the environment of each of its processes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cpsc_train.errors import UserError

PORTS = 2**16
DIGITS = 10
"""No number of processes and no port has as many."""


@dataclass(frozen=True)
class Launch:
    """The place of this process in its job.

    Parameters
    ----------
    rank, world
        Its number in 0 … world − 1, and the number of processes.
    local_rank, local_world
        The same among the processes on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def read(cls) -> Launch:
        """Read ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and ``LOCAL_WORLD_SIZE``; one process where they are not set.

        Raises
        ------
        UserError
            If one is no number or out of range, or a job of several processes lacks a variable that it needs.
        """
        world = _number("WORLD_SIZE", least=1, default=1)
        if world > 1:
            _require_meeting_point(world)
        rank = _number("RANK", below=world, bound="WORLD_SIZE")
        local_world = _number("LOCAL_WORLD_SIZE", least=1, default=world)
        local_rank = _number("LOCAL_RANK", below=local_world, bound="LOCAL_WORLD_SIZE")
        return cls(rank, world, local_rank, local_world)


def speaks() -> bool:
    """Return whether this process writes to the terminal: the first of a job, and any whose job cannot be told."""
    try:
        return Launch.read().rank == 0
    except UserError:
        return True


def _require_meeting_point(world: int) -> None:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE = {world} says that there are {world} processes, and these are not set: {', '.join(missing)}; "
            "start them by torchrun, which sets all, or unset WORLD_SIZE"
        )
    _number("MASTER_PORT", below=PORTS, bound="the number of ports")


def _number(name: str, *, least: int = 0, default: int = 0, below: int | None = None, bound: str = "") -> int:
    """Return the whole number in an environment variable; `bound` is the name of what it must be below."""
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
