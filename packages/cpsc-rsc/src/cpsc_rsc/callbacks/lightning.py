"""Callbacks for Lightning: quantiles of the heads during training, and trust at its end.

Importing this module needs Lightning: ``pip install "cpsc-rsc[lightning]"``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cpsc_rsc.callbacks._moved import Moved
from cpsc_rsc.callbacks.quantiles import calibrate_heads
from cpsc_rsc.callbacks.refresh import RefreshSchedule
from cpsc_rsc.callbacks.trust_fit import fit_trust

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise ImportError(
        "cpsc_rsc.callbacks.lightning needs Lightning 2.4 or newer: pip install 'cpsc-rsc[lightning]'"
    ) from error

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from cpsc_rsc.callbacks.trust_fit import Corrupt

__all__ = ["QuantileCallback", "TrustCallback"]


class QuantileCallback(Callback):  # type: ignore[misc]  # Lightning is optional
    """Compute the quantiles of the module, a `CalibratedModel`, every few optimizer steps.

    They are computed before the first batch of such a step, in evaluation mode and with the precision of training; the
    other steps do not wait for the device. The mode of every submodule is restored.

    Parameters
    ----------
    calibration : Iterable
        Batches for ``head_outputs`` of the module, such as a ``DataLoader``, of all calibration samples on each
        process; see `HeadQuantiles`. They are moved to the device as training batches are.
    every_n_steps, warmup_steps : int
        As for `RefreshSchedule`, in steps of ``trainer.global_step``.

    Raises
    ------
    TypeError, ValueError
        As for `RefreshSchedule`; during training, as for `calibrate_heads`.
    """

    def __init__(self, calibration: Iterable[Any], *, every_n_steps: int, warmup_steps: int = 0) -> None:
        self.calibration = calibration
        self.schedule = RefreshSchedule(every_n_steps=every_n_steps, warmup_steps=warmup_steps)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Compute the quantiles if they are due."""
        if self.schedule.due(trainer.global_step):
            with trainer.precision_plugin.forward_context():
                calibrate_heads(pl_module, _moved(trainer, self.calibration))


class TrustCallback(Callback):  # type: ignore[misc]
    """Fit the trust of the module, a `TrustedModel`, at the end of training.

    It is fitted to the last weights. After loading others, such as those of the best checkpoint, call `fit_trust`.

    Parameters
    ----------
    training, held_out, corrupt
        As for `fit_trust`. Batches are moved to the device as training batches are.

    Raises
    ------
    TypeError, ValueError
        At the end of training, as for `fit_trust`.
    """

    def __init__(self, training: Iterable[Any], held_out: Iterable[Any], corrupt: Corrupt | None = None) -> None:
        self.training, self.held_out, self.corrupt = training, held_out, corrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the trust."""
        with trainer.precision_plugin.forward_context():
            fit_trust(pl_module, _moved(trainer, self.training), _moved(trainer, self.held_out), self.corrupt)


def _moved(trainer: Trainer, batches: Iterable[Any]) -> Moved:
    return Moved(batches, lambda batch: trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch)))
