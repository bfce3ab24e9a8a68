"""Callbacks for the Hugging Face Trainer: quantiles of the heads during training, and trust at its end.

Importing this module needs transformers with accelerate: ``pip install "cpsc-rsc[transformers]"``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from cpsc_rsc.callbacks._moved import Moved
from cpsc_rsc.callbacks.quantiles import calibrate_heads
from cpsc_rsc.callbacks.refresh import RefreshSchedule
from cpsc_rsc.callbacks.trust_fit import fit_trust

try:
    from accelerate.utils import send_to_device
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "cpsc_rsc.callbacks.transformers needs transformers 4.48 or newer, and accelerate: "
        "pip install 'cpsc-rsc[transformers]'"
    ) from error

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from cpsc_rsc.callbacks.trust_fit import Corrupt

__all__ = ["QuantileCallback", "TrustCallback"]


class QuantileCallback(TrainerCallback):  # type: ignore[misc]  # transformers is optional
    """Compute the quantiles of the model, a `CalibratedModel`, every few optimizer steps.

    They are computed before the first batch of such a step, in evaluation mode and with the precision of training; the
    other steps do not wait for the device. The mode of every submodule is restored.

    Parameters
    ----------
    calibration : Iterable
        Batches for ``head_outputs`` of the model, such as a ``DataLoader``, of all calibration samples on each process;
        see `HeadQuantiles`. They are moved to the device.
    every_n_steps, warmup_steps : int
        As for `RefreshSchedule`, in steps of ``state.global_step``.

    Raises
    ------
    TypeError, ValueError
        As for `RefreshSchedule`; during training, as for `calibrate_heads`.
    """

    def __init__(self, calibration: Iterable[Any], *, every_n_steps: int, warmup_steps: int = 0) -> None:
        self.calibration = calibration
        self.schedule = RefreshSchedule(every_n_steps=every_n_steps, warmup_steps=warmup_steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **_: Any
    ) -> None:
        """Compute the quantiles if they are due."""
        if self.schedule.due(state.global_step):
            with _precision(args):
                calibrate_heads(model, _moved(args, self.calibration))


class TrustCallback(TrainerCallback):  # type: ignore[misc]
    """Fit the trust of the model, a `TrustedModel`, at the end of training.

    With ``load_best_model_at_end``, it is fitted to the best weights, otherwise to the last ones. Checkpoints that were
    saved during training do not contain it: save the model after training.

    Parameters
    ----------
    training, held_out, corrupt
        As for `fit_trust`. Batches are moved to the device.

    Raises
    ------
    TypeError, ValueError
        At the end of training, as for `fit_trust`.
    """

    def __init__(self, training: Iterable[Any], held_out: Iterable[Any], corrupt: Corrupt | None = None) -> None:
        self.training, self.held_out, self.corrupt = training, held_out, corrupt

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **_: Any
    ) -> None:
        """Fit the trust."""
        with _precision(args):
            fit_trust(model, _moved(args, self.training), _moved(args, self.held_out), self.corrupt)


def _precision(args: TrainingArguments) -> torch.autocast:
    """Return the autocast context of the Trainer, which wraps only the forward method of the model."""
    dtype = torch.bfloat16 if args.bf16 else torch.float16
    return torch.autocast(args.device.type, dtype=dtype, enabled=args.bf16 or args.fp16)


def _moved(args: TrainingArguments, batches: Iterable[Any]) -> Moved:
    return Moved(batches, lambda batch: send_to_device(batch, args.device))
