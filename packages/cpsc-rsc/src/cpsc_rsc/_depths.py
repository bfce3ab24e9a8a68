"""Names of the depths of an encoder, and the layout of activations there."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from math import ceil

from torch import nn
from torch.nn.parallel import DistributedDataParallel

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
    while isinstance(module, DistributedDataParallel) or "_orig_mod" in module._modules:
        module = module.get_submodule("module" if isinstance(module, DistributedDataParallel) else "_orig_mod")
    return module


def find(module: nn.Module, name: str) -> nn.Module | None:
    """Return a submodule by its name, with or without the names of wrappers; None for the raw input."""
    found: nn.Module | None = module
    for part in name.split(".") if name else ():
        if found is not None and not (part in _WRAPPERS and part not in found._modules):
            found = unwrapped(found)._modules.get(part)
    if found is not None:
        return found
    if name == INPUT:
        return None
    known = [_plain(n) for n, _ in module.named_modules() if n]
    close = get_close_matches(_plain(name), known, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ": see its named_modules()"
    raise ValueError(f"names must be submodules of the encoder, got {name!r}{hint}")


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def channels_first(module: nn.Module, name: str) -> bool:
    """Return whether activations with three dimensions are (B, C, L) at a depth, and not (B, L, C).

    The last layer at or before it that is made for one of the two decides.
    """
    end = find(module, name)
    inside = set(end.modules()) if end is not None else set()
    first = reached = False
    for submodule in module.modules():
        reached = reached or submodule is end
        if end is None or (reached and submodule not in inside):
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
    leaves = {name: m for name, m in module.named_modules() if _is_leaf(m)}
    steps = blocks or [name for name, m in leaves.items() if type(m).__module__ == nn.ReLU.__module__] or _inner(leaves)
    name, first = next(iter(leaves.items()), ("", None))
    if blocks or count == 1 or not isinstance(first, (nn.Flatten, nn.Linear)):
        return (*_early(steps, count - 1), OUTPUT)
    raw = name if isinstance(first, nn.Flatten) else INPUT
    return (raw, *_early(steps, count - 2), OUTPUT)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None and not isinstance(module, (nn.Identity, *_CONTAINERS))


def _inner(leaves: dict[str, nn.Module]) -> list[str]:
    """Return the layers with weights, without the first: noise of mean zero does not show in the mean of its output."""
    return [name for name, m in leaves.items() if any(p.ndim > 1 for p in m.parameters())][1:]


def _blocks(module: nn.Module) -> list[str]:
    """Return the names of the composite modules of the most frequent class, outside of other repeated ones."""
    kinds = {
        name: type(m)
        for name, m in module.named_modules()
        if name and type(m) not in _CONTAINERS and next(m.children(), None) is not None
    }
    number = Counter(kinds.values())
    repeated = [name for name, kind in kinds.items() if number[kind] > 1]
    outer = [name for name in repeated if not any(name.startswith(f"{other}.") for other in repeated)]
    number = Counter(kinds[name] for name in outer)
    if not number:
        return []
    kind = max(number, key=lambda kind: number[kind])
    return [name for name in outer if kinds[name] is kind] if number[kind] > 1 else []


def _early(blocks: list[str], count: int) -> list[str]:
    """Return `count` names at even fractions of the first half of the depth; without repetition."""
    if len(blocks) < 2:
        return []
    places = [ceil(len(blocks) * j / (2 * (count + 1))) - 1 for j in range(1, count + 1)]
    return [blocks[place] for place in dict.fromkeys(places)]
