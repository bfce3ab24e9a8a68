"""Gradient self-calibration as an optimizer hook, for training loops whose loss cannot be touched."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import LBFGS, Optimizer

from conformal_core import ResidualScore
from cpsc_gsc import _checks
from cpsc_gsc._running_mean import RunningMean
from cpsc_gsc.loss import Loss, check_loss, weighted
from cpsc_gsc.reliability import LEAST_AMBIGUOUS, Kind, Score, collaborative_reliability, gsc_weights

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.utils.hooks import RemovableHandle

_MODES = ("add", "scale")
_HOOKED: WeakSet[Optimizer] = WeakSet()


class GradientSelfCalibration:
    """Calibrate the gradients of an optimizer by what is observed in the forward passes before its step.

    The loop keeps its own loss. In the forward pass, before ``backward``, it calls :meth:`observe`; when the optimizer
    steps, what was observed since its last step goes into ``.grad`` first:

    - ``mode="add"``: the modulated unimodal gradient (1/N) Σ_i w_i ∇CE_i of each modality, w = aρ + b, is added to
      every parameter of the optimizer that the unimodal logits depend on. N counts every sample observed, in however
      many micro-batches and processes. It equals :func:`gsc_loss` in the loss and costs one more backward pass.
    - ``mode="scale"``: the gradients of all encoders are multiplied by one factor a·ρ̄ + b, ρ̄ the mean of ρ over
      samples and modalities, as the code released with the source does (there, at every micro-batch).

    Parameters
    ----------
    encoders
        {modality: module}. Their trainable parameters must all belong to the optimizer; ``"scale"`` acts on these only.
    mode
        ``"add"`` or ``"scale"``.
    a, b
        Slope and intercept of the weight, not negative.
    score, kind
        As in :func:`collaborative_reliability`.
    loss
        As in :func:`gsc_loss`; ``"add"`` needs it with a score of regression.
    process_group
        The processes whose samples make one batch: ``None`` for all processes of ``torch.distributed`` where it is
        initialised. All of them must observe before the same steps, logits that depend on the same parameters.

    Raises
    ------
    TypeError, ValueError
        If an option has another kind or value.

    Notes
    -----
    Section "Gradient Self-Calibration" of arXiv:2605.03820. What is stored lives from :meth:`observe` to the step, so
    there is nothing to checkpoint between steps; a copy or a pickle is a detached hook with the same options.

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
    _stored: RunningMean[Any]

    def __init__(
        self,
        *,
        encoders: Mapping[str, nn.Module] | nn.ModuleDict,
        mode: Literal["add", "scale"] = "add",
        a: float = 0.6,
        b: float = 0.6,
        score: Score = LEAST_AMBIGUOUS,
        kind: Kind = "normalized",
        loss: Loss | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        is_mapping = isinstance(encoders, (Mapping, nn.ModuleDict)) and len(encoders) > 0
        if not is_mapping or not all(isinstance(encoder, nn.Module) for encoder in encoders.values()):
            raise TypeError(f"encoders must map each modality, at least one, to a module, got {encoders!r}")
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {_MODES}, got {mode!r}")
        _checks.coefficients(a, b)
        if mode == "add":
            check_loss(score, loss)
        self.encoders: dict[str, nn.Module] = dict(encoders.items())
        self.mode = mode
        self.a = a
        self.b = b
        self.score = score
        self.kind: Kind = kind
        self.loss = loss
        self.process_group = process_group
        self._paused = False
        self._forget()

    def attach(self, optimizer: Optimizer, *, scaler: GradScaler | None = None) -> Self:
        """Take part in the steps of `optimizer`; return self, which as a context manager is removed at its end.

        Parameters
        ----------
        optimizer
            Any optimizer whose step follows one gradient; parameter groups may change later.
        scaler
            The ``GradScaler`` of the loop, which must be given if there is one. Then call :meth:`apply` after the last
            ``backward`` and before ``scaler.unscale_`` or ``scaler.step``, so that the stored gradient is checked and
            unscaled with the rest, and goes with it when a step is skipped.

        Raises
        ------
        TypeError
            If `optimizer` is none, or wraps one, or is LBFGS, which compares values of a loss that this gradient is not
            part of.
        ValueError
            If the optimizer lacks a trainable parameter of an encoder.
        RuntimeError
            If this hook is attached already, or another one is attached to `optimizer`.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        if isinstance(optimizer, LBFGS):
            raise TypeError(
                "optimizer must not compare values of the loss, which this gradient is not part of (use gsc_loss), "
                "got LBFGS"
            )
        if self._optimizer is not None:
            raise RuntimeError("attach must be called once (call remove first), got a second call")
        if optimizer in _HOOKED:
            raise RuntimeError("optimizer must carry one GradientSelfCalibration, got one that carries another already")
        self._check_holds_encoders(optimizer)
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
        """Store what one forward pass says, once a forward pass and before its ``backward``.

        Parameters
        ----------
        unimodal_logits
            {modality: (B, C)} with their graph, which is kept for the loop's own ``backward``; with a score of
            regression predictions.
        labels
            (B,) integers in [0, C); floating targets with a score of regression.
        fused_logits
            (B, C), or the fused predictions; only what they decide is used.
        qhat
            {modality: 0-d}, the conformal quantile of the scores of that modality's head.
        check
            Whether values are checked; ``None``: for CPU tensors only.

        Returns
        -------
        dict of Tensor
            The reliability ρ, {modality: (B,)}, for logging; empty while paused, when nothing is looked at.

        Raises
        ------
        TypeError, ValueError
            As :func:`gsc_loss`; and if the logits depend on no parameter of the optimizer.
        RuntimeError
            If the hook is not attached, or logits are float16 and :meth:`attach` got no scaler.
        """
        if self._optimizer is None:
            raise RuntimeError("observe must follow attach(optimizer), got a hook that is not attached")
        if self._paused:
            return {}
        if isinstance(self.score, ResidualScore):
            batch = _checks.predictions_by_modality(unimodal_logits, self.score.columns)[1]
            _checks.targets(labels, batch, check)
        else:
            batch, classes = _checks.logits_by_modality(unimodal_logits)
            labels = _checks.class_labels(labels, (batch, classes), check)
        reliability = collaborative_reliability(
            unimodal_logits, fused_logits, qhat=qhat, score=self.score, kind=self.kind, check=check
        )
        if self._scaler is None and any(logits.dtype is torch.float16 for logits in unimodal_logits.values()):
            raise RuntimeError("float16 logits need the scaler of the loop: attach(optimizer, scaler=...), got none")
        if self.mode == "scale":
            self._stored.add({"rho": torch.stack(list(reliability.values())).mean()}, batch)
        else:
            weights = {modality: gsc_weights(rho, a=self.a, b=self.b) for modality, rho in reliability.items()}
            loss = weighted(unimodal_logits, labels, weights, score=self.score, loss=self.loss, check=False)
            self._stored.add(self._gradient(loss), batch)
        return reliability

    @torch.no_grad()
    def apply(self) -> None:
        """Put what is stored into ``.grad`` now, once a step and after the last ``backward``, rather than at the step.

        For clipping that is to see the whole gradient, and for a ``GradScaler``. Nothing is stored afterwards, so the
        step itself adds nothing more.

        Raises
        ------
        RuntimeError
            If the scaler has unscaled the gradients of this step already.
        """
        if not self._stored:
            return
        if self._is_unscaled():
            raise RuntimeError("apply must come before scaler.unscale_, got gradients that are unscaled already")
        stored = self._stored.take(self.process_group)
        if self.mode == "scale":
            self._scale_encoders(gsc_weights(stored["rho"], a=self.a, b=self.b))
        else:
            _add_to_grad(stored)

    def pause(self) -> None:
        """Neither observe nor change gradients until :meth:`resume`; what is stored is dropped."""
        self._paused = True
        self._stored.clear()

    def resume(self) -> None:
        """Observe again."""
        self._paused = False

    def remove(self) -> None:
        """Leave the optimizer as it was; what is stored is dropped. The hook may be attached again."""
        if self._optimizer is not None and self._handle is not None:
            self._handle.remove()
            _HOOKED.discard(self._optimizer)
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:
        detached = type(self).__new__(type(self))
        detached.__dict__.update(self.__dict__)
        detached._forget()
        return detached.__dict__

    def _forget(self) -> None:
        self._optimizer = None
        self._scaler = None
        self._handle = None
        self._stored = RunningMean()

    def _check_holds_encoders(self, optimizer: Optimizer) -> None:
        held = {p for group in optimizer.param_groups for p in group["params"]}
        for modality, encoder in self.encoders.items():
            trainable = [p for p in encoder.parameters() if p.requires_grad]
            missing = sum(p not in held for p in trainable)
            if missing:
                raise ValueError(
                    f"optimizer must hold all trainable parameters of encoders[{modality!r}], got one that lacks "
                    f"{missing} of {len(trainable)}"
                )

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._apply_at_step(optimizer)
            return None

        @functools.wraps(closure)
        def calibrated() -> Any:
            loss = closure()  # forward, observe and backward happen in here, after this hook has run
            self._apply_at_step(optimizer)
            return loss

        if "closure" in kwargs:
            return args, kwargs | {"closure": calibrated}
        return (args[0], calibrated, *args[2:]), kwargs

    def _apply_at_step(self, optimizer: Optimizer) -> None:
        if self._stored and self._scaler is not None:
            raise RuntimeError(
                "apply must be called after backward and before scaler.unscale_ or scaler.step, got a step without it"
            )
        if self._stored and getattr(optimizer, "grad_scale", None) is not None:
            raise RuntimeError("attach must be given the scaler (scaler=...), got a step by a GradScaler without it")
        self.apply()

    def _is_unscaled(self) -> bool:
        """Return whether the scaler is done with this step's gradients; it has no public name for that."""
        if self._scaler is None:
            return False
        return bool(self._scaler._per_optimizer_states[id(self._optimizer)]["stage"] is not OptState.READY)

    def _gradient(self, loss: Tensor) -> dict[Tensor, Tensor]:
        """Return the gradient of `loss`, scaled as the loop scales its own, for what the optimizer trains."""
        assert self._optimizer is not None  # noqa: S101 - observe has checked
        parameters = [p for group in self._optimizer.param_groups for p in group["params"] if p.requires_grad]
        if not loss.requires_grad:
            raise ValueError("unimodal_logits must carry a graph, got logits that were detached or computed in no_grad")
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        found = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
        if not found:
            raise ValueError("unimodal_logits must depend on a parameter of the optimizer, got none that does")
        return found

    def _scale_encoders(self, factor: Tensor) -> None:
        shared_once = dict.fromkeys(p for encoder in self.encoders.values() for p in encoder.parameters())
        for parameter in shared_once:
            if parameter.grad is not None:
                parameter.grad.mul_(factor.to(parameter.grad.device))


def _add_to_grad(gradients: Mapping[Tensor, Tensor]) -> None:
    for parameter, gradient in gradients.items():
        if not parameter.requires_grad:  # frozen since it was observed
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.add_(gradient)
