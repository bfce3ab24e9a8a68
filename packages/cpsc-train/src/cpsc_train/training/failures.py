"""Errors of libraries during a run, reported as errors of the user with a cure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpsc_train.data.prefetch import worker_failure
from cpsc_train.errors import JobError, UserError, out_of_memory, reason
from cpsc_train.training.config import RunConfig
from cpsc_train.training.distributed import lost_another


@contextmanager
def explained(config: RunConfig) -> Iterator[None]:
    """Raise UserError, with a cure, in place of an error of torch: no memory, a lost process, a batch of one row.

    Worker processes that were terminated, as schedulers do with all processes of a job, count as an interrupt.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _smaller_batch(config, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch normalisation needs more than one row, and batch_size = {config.batch_size} leaves a process one: "
            "raise batch_size"
        ) from None
    except RuntimeError as error:
        raise _explanation(config, error) from None


def _explanation(config: RunConfig, error: RuntimeError) -> BaseException:
    if died := worker_failure(error, "compute.workers"):
        return died
    if lost_another(error):
        return JobError(
            f"another process of the job ended or did not answer ({reason(error)}): see its output; resume with cpsc "
            "train --resume and as many processes"
        )
    return _smaller_batch(config, error) if out_of_memory(error) else error


def _smaller_batch(config: RunConfig, error: BaseException) -> UserError:
    half, accumulate = max(1, config.batch_size // 2), 2 * config.optimizer.accumulate
    cause = next(iter(str(error).splitlines()), "")[:120]
    return UserError(
        f"out of memory with batch_size = {config.batch_size} ({cause}): try --set batch_size={half} --set "
        f"optimizer.accumulate={accumulate}, which makes the same step"
    )
