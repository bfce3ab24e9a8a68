"""Pooled activations from several depths of an encoder.

Shapes: B samples, K depths, d_k channels at depth k, L tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_rsc._depths import INPUT, OUTPUT, channels_first, default_names, find, unwrapped


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

    Raises
    ------
    TypeError, ValueError
        If `module` is not a module, a name is unknown or repeated, or `count` is below 1.

    Notes
    -----
    *Default spread.* The blocks of an encoder are its modules of a class that occurs at least twice, such as residual
    blocks and transformer layers, outside of other such modules; without them, its activation functions. Of n blocks,
    those at the fractions j / (2 count) of the depth are taken, j = 1, ..., count − 1: for count = 2, at a quarter. An
    encoder without such blocks that starts with a linear layer or `nn.Flatten` is one of vectors: its first depth is
    the raw input, which shows every corruption.

    *Pooling.* Activations (B, d) are taken as they are, and (B, C, H, W) and (B, C, T, H, W) are averaged over all but
    the first two dimensions. Activations with three dimensions are (B, C, L) after a one-dimensional convolution, and
    (B, L, C) otherwise, averaged over L. An encoder may have a method ``token_mask(x)`` that returns (B, L) booleans,
    false for padding, which the mean then excludes. Frames that the encoder folds into the batch are averaged for each
    sample. Of a tuple or mapping, the first tensor is taken, and of a module that is called more than once, the first
    output. Pooling is at least in single precision, also under autocast.

    Forward hooks exist during a call only. Compiled parts of the encoder run uncompiled, since the compiler ignores
    hooks that are added later; compile the call itself, or a `TappedEncoder`, instead.

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
        module = unwrapped(module)
        self.names = tuple(names) if names is not None else default_names(module, count)
        if not self.names or len(set(self.names)) < len(self.names) or isinstance(names, str):
            raise ValueError(f"names must be one or more different names of submodules, got {names!r}")
        self._channels_first = {name: channels_first(module, name) for name in self.names}

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
        encoder = unwrapped(module)
        token_mask = getattr(encoder, "token_mask", None)
        mask = token_mask(x) if callable(token_mask) else None
        pooled: dict[str, Tensor] = {}

        def keep(name: str, output: object) -> None:
            if name not in pooled:
                first = self._channels_first[name]
                pooled[name] = _pooled(name, _first_tensor(name, output), len(x), mask, channels_first=first)

        with _uncompiled(), ExitStack() as hooks:
            for name in self.names:
                submodule = find(encoder, name)
                if submodule is not None:
                    hooks.enter_context(submodule.register_forward_hook(_hook(keep, name)))
            output = module(x)
        for name, value in ((INPUT, x), (OUTPUT, output)):
            if name in self.names:
                keep(name, value)
        if missing := [name for name in self.names if name not in pooled]:
            raise ValueError(f"names must be submodules that the encoder calls, got {missing[0]!r}, which it does not")
        return output, tuple(pooled[name] for name in self.names)

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
        modes = [(submodule, submodule.training) for submodule in module.modules()]
        module.eval()
        try:
            with torch.no_grad():
                _, depths = self(module, example)
        finally:
            for submodule, mode in modes:
                submodule.training = mode
        return tuple(depth.shape[1] for depth in depths)

    def __repr__(self) -> str:
        """Return the names."""
        return f"Taps({', '.join(map(repr, self.names))})"


class TappedEncoder(nn.Module):
    """An encoder that also returns its pooled activations, for export and compilation.

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

    def forward(self, x: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
        """Map samples (B, ...) to the output of the encoder, and activations (B, d_k)."""
        return self.taps(self.encoder, x)

    def extra_repr(self) -> str:
        """Return the names of the depths for `repr`."""
        return f"names={self.taps.names}"


def _hook(keep: Callable[[str, object], None], name: str) -> Callable[..., None]:
    return lambda _module, _inputs, output: keep(name, output)


def _uncompiled() -> AbstractContextManager[Any]:
    """Run compiled modules as written, unless we are being compiled; nothing is compiled if there is no compiler."""
    if torch.compiler.is_compiling() or "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _first_tensor(name: str, value: object) -> Tensor:
    for tensor in _tensors(value):
        return tensor
    raise TypeError(f"the output of {name!r} must hold a tensor, got {type(value).__name__}: name another submodule")


def _pooled(name: str, h: Tensor, batch: int, mask: Tensor | None, *, channels_first: bool) -> Tensor:
    """Return activations (B, ...) or (B T, ...) as (B, d)."""
    h = h.detach() if not h.is_floating_point() else h
    dtype = torch.promote_types(h.dtype, torch.float32)
    if h.ndim < 2 or h.shape[0] % batch:
        raise ValueError(f"activations of {name!r} must have shape ({batch}, ...), got {tuple(h.shape)}")
    if h.ndim == 3 and not channels_first:
        h = _mean_of_tokens(h, mask, dtype)
    elif h.ndim > 2:
        h = h.mean(tuple(range(2, h.ndim)), dtype=dtype)
    h = h.to(dtype)
    return h if h.shape[0] == batch else h.reshape(batch, -1, h.shape[1]).mean(1)


def _mean_of_tokens(h: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the mean over tokens (B, L, d) that are not padding by `mask` (B, L); 0 if all are."""
    if mask is None or mask.shape != h.shape[:2]:
        return h.mean(1, dtype=dtype)
    kept = torch.where(mask[..., None], h, torch.zeros((), dtype=h.dtype, device=h.device))
    return kept.sum(1, dtype=dtype) / mask.sum(1, keepdim=True).clamp(min=1)
