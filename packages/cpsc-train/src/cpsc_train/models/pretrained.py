"""Encoders with a backbone, whose first blocks may be frozen, and a projection; loading of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from cpsc_train.errors import UserError, out_of_memory, reason


class BackboneEncoder(nn.Module):
    """A backbone to pooled features (B, width), and a projection to (B, d).

    A subclass implements `pooled`. Parameters of a backbone whose attribute ``pretrained`` is true may have a learning
    rate of their own.

    - `backbone` and `project`: both parts.
    - `frozen`: names of submodules of the backbone that are not trained: they get no gradient and stay in evaluation
      mode, so that dropout is off and the statistics of batch normalisation do not change.
    """

    def __init__(self, backbone: nn.Module, project: nn.Module, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = project
        self._frozen = tuple(frozen)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train()

    def pooled(self, x: Tensor) -> Tensor:
        """Map samples (B, ...) to the pooled features of the backbone, (B, width)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map samples (B, ...) to (B, d)."""
        features: Tensor = self.project(self.pooled(x))
        return features

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules except the frozen ones."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> Iterator[nn.Module]:
        # By name, since a module may be replaced, such as batch normalisation by that of several processes.
        return (self.backbone.get_submodule(name) for name in self._frozen)


def check_train(section: str, train: str) -> None:
    """Refuse an option ``train`` that is not ``all``, ``none`` or ``last:K``."""
    if not re.fullmatch(r"all|none|last:[1-9]\d*", train):
        raise UserError(f"{section}.train must be all, none or last:K, got {train!r}")


def frozen_parts(section: str, train: str, first: Sequence[str], blocks: Sequence[str]) -> list[str]:
    """Return the names of the frozen modules for ``train = last:K``: `first`, and all `blocks` but the last K.

    Everything is frozen for ``none`` (the name ``""`` is the backbone itself), and nothing for ``all``. UserError if
    there are fewer than K blocks.

    Examples
    --------
    >>> frozen_parts("resnet", "last:1", ["stem"], ["a", "b", "c"])
    ['stem', 'a', 'b']
    """
    if train in {"all", "none"}:
        return [] if train == "all" else [""]
    count = int(train.removeprefix("last:"))
    if count > len(blocks):
        raise UserError(f"{section}.train must be at most last:{len(blocks)}, the number of blocks, got {train}")
    return [*first, *blocks[: len(blocks) - count]]


def pretrained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all pretrained backbones in a model."""
    return [p for module in model.modules() if getattr(module, "pretrained", False) for p in module.parameters()]


def load_parameters(backbone: nn.Module, path: Path, *, model: str, unused: str) -> None:
    """Load the parameters of a backbone from a file, without those whose names start with `unused`.

    `path` is a file of ``torch.save`` or safetensors, or a folder that holds one; `model` names the backbone in errors.
    Raises UserError if the file is missing or unreadable, or holds other parameters. No code in it is executed.
    """
    path = _only_file(path)
    state = _read(path)
    try:
        backbone.load_state_dict({name: value for name, value in state.items() if not name.startswith(unused)})
    except (AttributeError, RuntimeError) as error:
        last = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: does not hold the parameters of {model}: {last}") from None


def _only_file(path: Path) -> Path:
    """Return `path`, or the only file of parameters in it."""
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in {".pt", ".pth", ".safetensors"})
    if len(files) != 1:
        raise UserError(f"{path}: must hold one file of parameters (.pt, .pth or .safetensors), got {len(files)}")
    return files[0]


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415  # an extra

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of parameters") from None
    except ImportError:
        raise UserError('safetensors is not installed: pip install "cpsc-train[safetensors]"') from None
    except Exception as error:  # a damaged file can make the readers fail in any way
        if out_of_memory(error):
            raise
        raise UserError(f"{path}: is not a readable file of parameters ({reason(error)})") from None
