"""Export of the best model of a run as a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cpsc_train.errors import needs
from cpsc_train.printable import without_credentials
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.writing import write


def export(folder: Path | str, out: Path | None = None) -> Path:
    """Write the tensors ``model.*`` (encoders, heads, fusion), ``method.*``, ``qhat.*``, and ``gate.*`` of a gate.

    Parameters
    ----------
    folder
        A run folder.
    out
        The file. If None, ``model.safetensors`` in the folder.

    Returns
    -------
    Path
        The file. Its metadata contain the configuration as JSON (``config``), without credentials, and the ``epoch``.

    Raises
    ------
    UserError
        If safetensors is not installed, there is no checkpoint, or the file cannot be written.
    """
    with needs("safetensors", extra="safetensors"):
        from safetensors.torch import save  # noqa: PLC0415  # an extra
    run_folder = RunFolder(folder)
    config = run_folder.read_config()
    state = checkpoint.load_best(run_folder.checkpoint, torch.device("cpu"))
    tensors = {f"{part}.{name}": value for part in ("model", "method") for name, value in state[part].items()}
    tensors |= {f"qhat.{head}": value for head, value in (state["qhat"] or {}).items()}
    tensors |= {f"gate.{name}": value for name, value in state.get("gate", {}).items()}
    path = out or run_folder.path / "model.safetensors"
    metadata = {"config": without_credentials(json.dumps(config)), "epoch": str(state["epoch"])}
    write(path, save({name: value.contiguous().clone() for name, value in tensors.items()}, metadata))
    return path
