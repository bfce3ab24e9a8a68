"""Pooled activations from several depths of an encoder.

Shapes: B samples, K depths, d_k channels at depth k, L tokens.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cpsc_rsc._depths import INPUT, channels_first, default_names, find, unwrapped
from cpsc_rsc._evaluating import evaluating
from cpsc_rsc._pooling import first_tensor, pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.hooks import RemovableHandle


class Taps:
    """Collect the pooled activations of an encoder at several depths, (B, d_k) each.

    Corruption of an input shows in the first layers of a deep encoder, which the last ones have learned to ignore.
    Distances to the activations of training rows are therefore taken at several depths.

    Parameters
    ----------
    module : nn.Module
        The encoder, (B, ...) to (B, d). Only its structure is read; it is given again at each call.
    names : Sequence[str], optional
        Submodules whose outputs are taken, as in `nn.Module.named_modules`; ``""`` is the output of the encoder, and
        ``"input"`` its input. If None, the attribute ``tap_names`` of the encoder, or else a default spread: early
        depths, and the output.
    count : int
        Number of depths of the default spread, at least 1; an encoder with few layers has fewer.

    Attributes
    ----------
    names : tuple[str, ...]
        The depths, in the order of the results.
    channels_first : dict[str, bool]
        Whether activations with three dimensions are (B, C, L) at a depth.

    Raises
    ------
    TypeError, ValueError
        If `module` is not a module, a name is unknown or repeated, or `count` is below 1.

    Notes
    -----
    *Default spread.* The blocks of an encoder are its modules of a class that occurs at least twice, such as residual
    blocks and transformer layers, outside of other such modules; without them, its activation functions, or else its
    layers. Of n blocks, those at the fractions j / (2 count) of the depth are taken, j = 1, ..., count − 1: for
    count = 2, at a quarter. An encoder without such blocks that starts with a linear layer or `nn.Flatten` is one of
    vectors: its first depth is the raw input, which shows every corruption.

    *Pooling.* Activations (B, d) are taken as they are, and (B, C, H, W) and (B, C, T, H, W) are averaged over all but
    the first two dimensions. Activations with three dimensions are (B, C, L) after a one-dimensional convolution, and
    (B, L, C) otherwise, averaged over L. An encoder may have a method ``token_mask(x)`` that returns (B, L) booleans,
    false for padding, which the mean then excludes. Frames that the encoder folds into the batch are averaged for each
    sample. Of a tuple or mapping, the first tensor is taken, and of a module that is called more than once, the first
    output. Pooling is at least in single precision, also under autocast.

    Forward hooks exist during a call only. Compiled parts of the encoder run uncompiled, since the compiler ignores
    hooks that are added later; compile a `TappedEncoder` instead.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten())
    >>> taps = Taps(encoder)
    >>> taps
    Taps('1', '')
    >>> features, depths = taps(encoder, torch.randn(2, 3, 6, 6))
    >>> [tuple(h.shape) for h in depths]
    [(2, 8), (2, 64)]
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | None = None, *, count: int = 2) -> None:
        if isinstance(names, str):
            raise TypeError(f"names must be a sequence of names, got {names!r}: write [{names!r}]")
        module = unwrapped(module)
        self.names = tuple(names) if names is not None else default_names(module, count)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names must be one or more different names of submodules, got {list(self.names)}")
        self.channels_first = {name: channels_first(module, name) for name in self.names}

    def __call__(self, module: nn.Module, x: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
        """Call the encoder, and return its output and the pooled activations.

        Parameters
        ----------
        module : nn.Module
            The encoder, or one of the same structure, such as a copy or a DDP wrapper.
        x : Tensor, shape (B, ...)

        Returns
        -------
        features
            The output of the encoder, unchanged.
        depths : tuple[Tensor, ...], each of shape (B, d_k)
            At least in single precision; gradients pass.

        Raises
        ------
        ValueError
            If the encoder has no submodule of a name, does not call it, or an activation has no row for each sample.
        TypeError
            If an output holds no tensor.
        """
        recorder = _Recorder(self)
        handles = recorder.attach(module)
        try:
            return recorder.run(module, x)
        finally:
            for handle in handles:
                handle.remove()

    def widths(self, module: nn.Module, example: Tensor) -> tuple[int, ...]:
        """Return the numbers of channels d_k, by a forward pass of an example in evaluation mode.

        Parameters
        ----------
        module : nn.Module
            As for a call. The modes of its submodules are restored.
        example : Tensor, shape (B, ...)
            One or two samples.

        Raises
        ------
        TypeError, ValueError
            As for a call.
        """
        with evaluating(module):
            _, depths = self(module, example)
        return tuple(depth.shape[1] for depth in depths)

    def __repr__(self) -> str:
        """Return the names."""
        return f"Taps({', '.join(map(repr, self.names))})"


class TappedEncoder(nn.Module):
    """An encoder that also returns its pooled activations, for export and compilation.

    Its hooks stay on the encoder, and do nothing while the encoder is called on its own.

    Parameters
    ----------
    encoder, names, count
        As for `Taps`.

    Raises
    ------
    TypeError, ValueError
        As for `Taps`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> tapped = TappedEncoder(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)))
    >>> features, depths = tapped(torch.randn(2, 5))
    >>> [tuple(h.shape) for h in depths]
    [(2, 5), (2, 4)]
    """

    def __init__(self, encoder: nn.Module, names: Sequence[str] | None = None, *, count: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.taps = Taps(encoder, names, count=count)
        self._recorder = _Recorder(self.taps)
        self._recorder.attach(encoder)

    def forward(self, x: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
        """Map samples (B, ...) to the output of the encoder, and activations (B, d_k)."""
        return self._recorder.run(self.encoder, x)

    def extra_repr(self) -> str:
        """Return the names of the depths for `repr`."""
        return f"names={self.taps.names}"


class _Recorder:
    """Forward hooks that pool the outputs of submodules during `run`, and do nothing outside of it."""

    def __init__(self, taps: Taps) -> None:
        self._taps = taps
        self._pooled: dict[str, Tensor] | None = None  # not None only in `run`
        self._mask: Tensor | None = None
        self._batch = 0

    def attach(self, module: nn.Module) -> list[RemovableHandle]:
        """Register the hooks."""
        submodules = {name: find(unwrapped(module), name) for name in self._taps.names}
        return [m.register_forward_hook(partial(self._hook, name)) for name, m in submodules.items() if m is not None]

    def run(self, module: nn.Module, x: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
        """Call a module with hooks, and return its output and the activations."""
        token_mask = getattr(unwrapped(module), "token_mask", None)
        self._batch, self._mask = x.shape[0], None if token_mask is None else token_mask(x)
        kept: dict[str, Tensor] = {}
        self._pooled = kept
        try:
            with _uncompiled():
                output = module(x)
            if INPUT in self._taps.names:
                self._keep(INPUT, x)
        finally:
            self._pooled = self._mask = None
        for name in self._taps.names:
            if name not in kept:
                raise ValueError(f"names must be submodules that the encoder calls, got {name!r}, which it does not")
        return output, tuple(kept[name] for name in self._taps.names)

    def _hook(self, name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        self._keep(name, output)

    def _keep(self, name: str, output: object) -> None:
        if self._pooled is not None and name not in self._pooled:
            first = self._taps.channels_first[name]
            h = first_tensor(name, output)
            self._pooled[name] = pooled(name, h, self._batch, self._mask, channels_first=first)


def _uncompiled() -> AbstractContextManager[Any]:
    """Run compiled modules as written, unless this is being compiled; without a compiler there is none to avoid."""
    if torch.compiler.is_compiling() or "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager
