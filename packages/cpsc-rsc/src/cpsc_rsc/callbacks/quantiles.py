"""The conformal quantile of each head, as buffers of a model.

Shapes: B samples of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from conformal_core import LAC, conformal_quantile, quantile_rank
from conformal_core.checks import check_score
from cpsc_rsc._checks import check_mask, check_modalities
from cpsc_rsc._evaluating import evaluating
from cpsc_rsc._versions import refuse_newer

if TYPE_CHECKING:
    from conformal_core import ClassificationScore, RegressionScore

DEFAULT_SCORE = LAC()


class HeadOutputs(NamedTuple):
    """Outputs of the heads for a batch of calibration samples.

    Attributes
    ----------
    outputs : Mapping[str, Tensor], each of shape (B, C)
        Logits of each head; predictions, if the score is one of regression.
    labels : integer Tensor, shape (B,)
        Labels, or floating targets.
    present : Mapping[str, Tensor], each of shape (B,), booleans
        Samples that have the modality of a head. Heads without an entry score all samples.
    """

    outputs: Mapping[str, Tensor]
    labels: Tensor
    present: Mapping[str, Tensor] = {}


class CalibratedModel(Protocol):
    """Interface of a model whose quantiles a callback computes during training."""

    qhat: HeadQuantiles

    def head_outputs(self, batch: Any, /) -> HeadOutputs:
        """Return the outputs of the heads for a batch of the calibration set, on the device of the model."""


class HeadQuantiles(nn.Module):
    """The quantile q̂ of the nonconformity scores of each head, computed on calibration batches.

    As buffers, the quantiles are saved, loaded and moved with the model that has this module, and a model that resumes
    from a checkpoint continues with those of the checkpoint.

    Parameters
    ----------
    heads : Iterable[str]
        Names of the heads, such as the modalities and ``"fused"``; without a dot.
    alpha : float
        Miscoverage in (0, 1).
    score : conformal_core.ClassificationScore or conformal_core.RegressionScore
        Nonconformity score.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range, or there is no head.

    Notes
    -----
    In training with several processes, each passes all calibration batches to `calibrate`. The processes do not
    communicate, so this works with any sharding of the training data, and DDP keeps the quantiles equal, as it does all
    buffers. Do not pass a loader with a ``DistributedSampler``: each process would use only part of the scores.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> qhat = HeadQuantiles(["audio", "fused"], alpha=0.1)
    >>> logits, labels = {"audio": torch.randn(40, 3), "fused": torch.randn(40, 3)}, torch.arange(40) % 3
    >>> qhat.calibrated
    False
    >>> qhat.calibrate([HeadOutputs(logits, labels)])
    >>> {head: round(q.item(), 2) for head, q in qhat().items()}
    {'audio': 0.91, 'fused': 0.94}
    """

    _version = 1  # of the state_dict() format

    def __init__(
        self, heads: Iterable[str], *, alpha: float = 0.1, score: ClassificationScore | RegressionScore = DEFAULT_SCORE
    ) -> None:
        super().__init__()
        if isinstance(heads, str):
            raise TypeError(f"heads must be a collection of names, got {heads!r}: write [{heads!r}]")
        self.heads = tuple(dict.fromkeys(heads))
        if not self.heads:
            raise ValueError("heads must hold at least one name, got none")
        quantile_rank(1, alpha=alpha)  # refuses a bad alpha now
        check_score(score, "activation")
        self.alpha, self.score = alpha, score
        for head in self.heads:
            self.register_buffer(f"qhat_{head}", torch.tensor(torch.nan))  # NaN: not calibrated; +∞ is a quantile
        self._calibrated: bool | None = None  # None: to be read from the buffers, once
        self.register_load_state_dict_pre_hook(refuse_newer)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    @property
    def calibrated(self) -> bool:
        """Whether `calibrate` was called, or the state of a calibrated module was loaded.

        The first access after loading synchronises with the device, later ones do not.
        """
        if self._calibrated is None:
            self._calibrated = not any(bool(q.isnan()) for q in self._buffers_of_heads().values())
        return self._calibrated

    def calibrate(self, batches: Iterable[HeadOutputs]) -> None:
        """Compute the quantiles on all batches of the calibration set; waits for the device.

        Parameters
        ----------
        batches : Iterable[HeadOutputs]
            Computed in evaluation mode, as by `evaluating`, on samples that the model is not trained on.

        Raises
        ------
        TypeError, ValueError
            If there is no batch, one lacks a head, or an entry has the wrong type or shape or is not finite; nothing
            changes then.

        Warns
        -----
        UserWarning
            If a head has too few samples for `alpha`; its quantile is then +∞.
        """
        parts = [self._scores(batch) for batch in batches]
        if not parts:
            raise ValueError("batches must hold at least one batch, got none: is the calibration set empty?")
        scores = {head: torch.cat([part[head] for part in parts]) for head in self.heads}
        quantiles = {head: conformal_quantile(s, alpha=self.alpha, check=True) for head, s in scores.items()}
        for head, buffer in self._buffers_of_heads().items():
            buffer.copy_(quantiles[head])
        self._calibrated = True

    def forward(self) -> dict[str, Tensor]:
        """Return the quantile of each head, 0-d, without a host sync.

        Raises
        ------
        RuntimeError
            If the quantiles were not computed yet.
        """
        if not torch.compiler.is_compiling() and not self.calibrated:
            raise RuntimeError(
                "the quantiles are not computed yet: call calibrate() first, or train without them while "
                "`calibrated` is false"
            )
        return self._buffers_of_heads()

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        return f"{list(self.heads)}, alpha={self.alpha}, score={self.score}"

    def _buffers_of_heads(self) -> dict[str, Tensor]:
        return {head: self.get_buffer(f"qhat_{head}") for head in self.heads}

    def _scores(self, batch: HeadOutputs) -> dict[str, Tensor]:
        """Return by head the scores of the samples that have its modality."""
        check_modalities("outputs", batch.outputs, self.heads, allow_more=True)
        scores = {}
        for head in self.heads:
            output = self.score.check_output(f"outputs[{head!r}]", batch.outputs[head], len(batch.labels)).detach()
            labels = self.score.check_labels(batch.labels, output)
            mask = batch.present.get(head)
            if mask is not None:
                check_mask(f"present[{head!r}]", mask, len(labels))
                output, labels = output[mask], labels[mask]
            scores[head] = self.score(self.score.activation(output), labels, check=True)
        return scores


def calibrate_heads(model: nn.Module, batches: Iterable[Any]) -> None:
    """Compute the quantiles of a `CalibratedModel` in evaluation mode; its training mode is restored.

    Parameters
    ----------
    model : nn.Module
        With the attributes of `CalibratedModel`. Pass the model itself, not its DDP wrapper.
    batches : Iterable
        The calibration set, on the device of the model; what ``model.head_outputs`` takes.

    Raises
    ------
    TypeError
        If the attribute ``qhat`` of the model is not a `HeadQuantiles`.
    TypeError, ValueError
        As for `HeadQuantiles.calibrate`.

    Examples
    --------
    >>> class Model(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.head, self.qhat = nn.Linear(4, 3), HeadQuantiles(["audio"], alpha=0.1)
    ...     def head_outputs(self, batch):
    ...         x, labels = batch
    ...         return HeadOutputs({"audio": self.head(x)}, labels)
    >>> model = Model()
    >>> calibrate_heads(model, [(torch.randn(20, 4), torch.randint(3, (20,))) for _ in range(2)])
    >>> sorted(model.qhat())
    ['audio']
    """
    if not isinstance(qhat := getattr(model, "qhat", None), HeadQuantiles):
        raise TypeError(f"the attribute qhat of the model must be a HeadQuantiles, got {type(qhat).__name__}")
    outputs = cast("CalibratedModel", model).head_outputs
    with evaluating(model):
        qhat.calibrate(outputs(batch) for batch in batches)


def _forget(quantiles: HeadQuantiles, _keys: object) -> None:
    """Read `calibrated` anew after a state was loaded, which may be that of a module that is not calibrated."""
    quantiles._calibrated = None
