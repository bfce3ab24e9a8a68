"""Names of the depths of an encoder, and the layout of activations there."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from math import ceil

from torch import nn

from conformal_core.checks import check_count

INPUT, OUTPUT = "input", ""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WRAPPERS = {"module", "_orig_mod"}  # of DDP and DataParallel, and of torch.compile
_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside wrappers of DDP and of the compiler."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch module, got {type(module).__name__}")
    while len(children := dict(module.named_children())) == 1 and children.keys() <= _WRAPPERS:
        (module,) = children.values()
    return module


def find(module: nn.Module, name: str) -> nn.Module | None:
    """Return a submodule by its name, with or without the names of wrappers; None for the input and the output."""
    known = dict(module.named_modules())
    short = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    for candidate in (name, short):
        if candidate in known:
            return known[candidate] if candidate else None
    if name == INPUT:
        return None
    close = get_close_matches(short, known, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ": see named_modules()"
    raise ValueError(f"names must be submodules of the encoder, got {name!r}{hint}")


def channels_first(module: nn.Module, name: str) -> bool:
    """Return whether activations with three dimensions are (B, C, L) at a depth, and not (B, L, C).

    The last layer at or before it that is made for one of the two decides.
    """
    end = find(module, name)
    if end is None and name == INPUT:
        return False
    inside = set() if end is None else set(end.modules())
    first, reached = False, False
    for submodule in module.modules():
        reached = reached or submodule is end
        if reached and submodule not in inside:
            break
        if isinstance(submodule, _CHANNELS_FIRST + _CHANNELS_LAST):
            first = isinstance(submodule, _CHANNELS_FIRST)
    return first


def default_names(module: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of at most `count` depths, early ones and the output; see `Taps`."""
    check_count("count", count)
    own = getattr(module, "tap_names", None)
    if own is not None:
        return tuple(own)
    blocks = _blocks(module)
    if blocks:
        return (*_early(blocks, count - 1), OUTPUT)
    first = next(((name, m) for name, m in module.named_modules() if _is_leaf(m)), ("", module))
    activations = [name for name, m in module.named_modules() if type(m).__module__ == nn.ReLU.__module__]
    if count > 1 and isinstance(first[1], (nn.Flatten, nn.Linear)):
        raw = first[0] if isinstance(first[1], nn.Flatten) else INPUT
        return (raw, *_early(activations, count - 2), OUTPUT)
    return (*_early(activations, count - 1), OUTPUT)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None and not isinstance(module, (nn.Identity, *_CONTAINERS))


def _blocks(module: nn.Module) -> list[str]:
    """Return the names of the composite modules whose class occurs most often, outside of other repeated ones."""
    composite = {n: m for n, m in module.named_modules() if n and not _is_leaf(m) and type(m) not in _CONTAINERS}
    composite = {n: m for n, m in composite.items() if not isinstance(m, nn.Identity)}
    number = Counter(type(m) for m in composite.values())
    repeated = [n for n, m in composite.items() if number[type(m)] > 1]
    outer = [n for n in repeated if not any(n.startswith(f"{other}.") for other in repeated)]
    if not outer:
        return []
    ((kind, size),) = Counter(type(composite[n]) for n in outer).most_common(1)
    return [n for n in outer if type(composite[n]) is kind] if size > 1 else []


def _early(blocks: list[str], count: int) -> list[str]:
    """Return `count` names at even fractions of the first half of the depth; without repetition."""
    if len(blocks) < 2:
        return []
    places = [ceil(len(blocks) * j / (2 * (count + 1))) - 1 for j in range(1, count + 1)]
    return [blocks[place] for place in dict.fromkeys(places)]
