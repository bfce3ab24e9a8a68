"""Gradient self-calibration as an optimizer hook, for training loops whose loss cannot be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from conformal_core import NonconformityScore
from conformal_core.checks import check_choice, check_nonnegative, check_score
from conformal_core.scores.nonconformity import ReliabilityKind
from cpsc_gsc import _gradient
from cpsc_gsc._checks import check_loss, check_outputs
from cpsc_gsc._running_mean import RunningMean
from cpsc_gsc.loss import Loss, weighted_loss
from cpsc_gsc.reliability import DEFAULT_SCORE, collaborative_reliability, gsc_weights

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.utils.hooks import RemovableHandle

Mode = Literal["add", "scale"]
_HOOKED: WeakSet[Optimizer] = WeakSet()


class GradientSelfCalibration:
    """Calibrate the gradients of an optimizer by the forward passes since its last step.

    The loop keeps its own loss and calls :meth:`observe` in the forward pass, before ``backward``. At the step of the
    optimizer the observed passes change ``.grad`` first:

    - ``mode="add"``: the weighted unimodal gradient (1/N) Σ_i w_i ∇CE_i, w = aρ + b, of each modality is added to every
      parameter of the optimizer that the unimodal logits depend on, where N counts the samples of all micro-batches and
      processes. It equals :func:`gsc_loss` in the loss and costs one more backward pass.
    - ``mode="scale"``: the gradients of all encoders are multiplied by a·ρ̄ + b, with ρ̄ the mean of ρ over samples and
      modalities, as in the released code (which does so at every micro-batch).

    Parameters
    ----------
    encoders
        {modality: module}. Their trainable parameters must all belong to the optimizer; ``"scale"`` changes these only.
    mode
        ``"add"`` or ``"scale"``.
    a, b
        Slope and intercept of the weight, at least 0.
    score
        As for :func:`collaborative_reliability`.
    reliability
        `kind` of :func:`collaborative_reliability`.
    loss
        As for :func:`gsc_loss`; used by ``"add"``.
    process_group
        Processes that share a batch, by default all of ``torch.distributed``. All of them must observe before the same
        steps, logits that depend on the same parameters.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Notes
    -----
    Section "Gradient Self-Calibration" of arXiv:2605.03820. Copies and pickles are detached, with the same options.

    Examples
    --------
    >>> audio, head = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)
    >>> optimizer = torch.optim.SGD([*audio.parameters(), *head.parameters()], lr=0.1)
    >>> gsc = GradientSelfCalibration(encoders={"audio": audio}).attach(optimizer)
    >>> logits, labels = head(audio(torch.ones(2, 4))), torch.tensor([0, 2])
    >>> rho = gsc.observe({"audio": logits}, labels, fused_logits=logits, qhat={"audio": torch.tensor(0.9)})
    >>> logits.logsumexp(-1).mean().backward()  # the loop's own loss
    >>> optimizer.step()  # adds the stored gradient first
    >>> rho
    {'audio': tensor([1., 1.])}
    """

    _optimizer: Optimizer | None
    _scaler: GradScaler | None
    _handle: RemovableHandle | None

    def __init__(
        self,
        *,
        encoders: Mapping[str, nn.Module] | nn.ModuleDict,
        mode: Mode = "add",
        a: float = 0.6,
        b: float = 0.6,
        score: NonconformityScore = DEFAULT_SCORE,
        reliability: ReliabilityKind = "normalized",
        loss: Loss | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_score(score, "score_and_reliability")
        score.check_kind(reliability, "reliability")
        self.encoders = _gradient.check_encoders(encoders)
        self.mode = check_choice("mode", mode, Mode)
        if mode == "add":
            check_loss(loss, score)
        self.a, self.b = check_nonnegative("a", a), check_nonnegative("b", b)
        self.score, self.reliability = score, reliability
        self.loss, self.process_group = loss, process_group
        self._paused = False
        self._detach()

    def attach(self, optimizer: Optimizer, *, scaler: GradScaler | None = None) -> Self:
        """Act on the steps of `optimizer`; return self, a context manager that is removed at its end.

        Parameters
        ----------
        optimizer
        scaler
            The ``GradScaler`` of the loop, required if it has one. Then call :meth:`apply` after the last ``backward``
            and before ``scaler.unscale_`` or ``scaler.step``.

        Raises
        ------
        TypeError, ValueError
            If `optimizer` is not an optimizer, wraps one, is LBFGS, or lacks a trainable parameter of an encoder.
        RuntimeError
            If this hook is attached already, or `optimizer` has another one.
        """
        _gradient.check_optimizer(optimizer, self.encoders)
        if self._optimizer is not None:
            raise RuntimeError("attach must be called once (call remove first), got a second call")
        if optimizer in _HOOKED:
            raise RuntimeError("optimizer must carry one GradientSelfCalibration, got one that carries another already")
        try:
            self._handle = optimizer.register_step_pre_hook(self._before_step)
        except AttributeError as error:
            raise TypeError(
                f"optimizer must take step hooks (attach to what a wrapper wraps), got {type(optimizer).__name__}"
            ) from error
        self._optimizer = optimizer
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        _HOOKED.add(optimizer)
        return self

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def observe(
        self,
        unimodal_logits: Mapping[str, Tensor],
        labels: Tensor,
        *,
        fused_logits: Tensor,
        qhat: Mapping[str, Tensor],
        check: bool | None = None,
    ) -> dict[str, Tensor]:
        """Store the gradient or the reliability of a forward pass; call it once, before ``backward``.

        Parameters
        ----------
        unimodal_logits, labels, fused_logits, qhat, check
            As for :func:`gsc_loss`. The graph of the unimodal logits is kept for the loop's own ``backward``.

        Returns
        -------
        dict of Tensor
            The reliability ρ, {modality: (B,)}, for logging; empty while paused.

        Raises
        ------
        TypeError, ValueError
            As for :func:`gsc_loss`, and if the logits depend on no parameter of the optimizer.
        RuntimeError
            If the hook is not attached, or logits are float16 and :meth:`attach` got no scaler.
        """
        if self._optimizer is None:
            raise RuntimeError("observe must follow attach(optimizer), got a hook that is not attached")
        if self._paused:
            return {}
        output = next(iter(check_outputs(unimodal_logits, self.score).values()))
        labels = self.score.check_labels(labels, output, check=check)
        reliability = collaborative_reliability(
            unimodal_logits, fused_logits=fused_logits, qhat=qhat, score=self.score, kind=self.reliability, check=check
        )
        if self._scaler is None and any(logits.dtype is torch.float16 for logits in unimodal_logits.values()):
            raise RuntimeError("float16 logits need the scaler of the loop: attach(optimizer, scaler=...), got none")
        if self.mode == "scale":
            self._stored.add({"rho": torch.stack(list(reliability.values())).mean()}, len(labels))
            return reliability
        weights = {m: gsc_weights(rho, a=self.a, b=self.b) for m, rho in reliability.items()}
        loss = weighted_loss(unimodal_logits, labels, weights, score=self.score, loss=self.loss, check=False)
        if self._scaler is not None and loss.requires_grad:
            loss = self._scaler.scale(loss)
        self._stored.add(_gradient.of_loss(loss, _gradient.parameters_of(self._optimizer)), len(labels))
        return reliability

    @torch.no_grad()
    def apply(self) -> None:
        """Change ``.grad`` now instead of at the step; call it once a step, after the last ``backward``.

        Clipping then covers the full gradient. Required before a ``GradScaler`` unscales (else RuntimeError).
        """
        if not self._stored:
            return
        if _gradient.is_unscaled(self._scaler, self._optimizer):
            raise RuntimeError("apply must come before scaler.unscale_, got gradients that are unscaled already")
        stored = self._stored.take(self.process_group)
        if self.mode == "scale":
            _gradient.scale(self.encoders.values(), gsc_weights(stored["rho"], a=self.a, b=self.b))
        else:
            _gradient.add(stored)

    def pause(self) -> None:
        """Discard stored gradients, and do nothing until :meth:`resume`."""
        self._paused = True
        self._stored.clear()

    def resume(self) -> None:
        """Observe again."""
        self._paused = False

    def remove(self) -> None:
        """Discard stored gradients and detach from the optimizer; the hook may be attached again."""
        if self._optimizer is not None and self._handle is not None:
            self._handle.remove()
            _HOOKED.discard(self._optimizer)
        self._detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_optimizer": None, "_scaler": None, "_handle": None, "_stored": RunningMean()}

    def _detach(self) -> None:
        self._optimizer = self._scaler = self._handle = None
        self._stored = RunningMean()

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        # A closure runs forward, observe and backward after this hook.
        return _gradient.run_after_closure(args, kwargs, lambda: self._apply_at_step(optimizer))

    def _apply_at_step(self, optimizer: Optimizer) -> None:
        if self._stored and self._scaler is not None:
            raise RuntimeError(
                "apply must be called after backward and before scaler.unscale_ or scaler.step, got a step without it"
            )
        if self._stored and getattr(optimizer, "grad_scale", None) is not None:
            raise RuntimeError("attach must be given the scaler (scaler=...), got a step by a GradScaler without it")
        self.apply()
