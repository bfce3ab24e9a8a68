"""Export of the best model of a run as a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from cpsc_train.errors import needs
from cpsc_train.printable import without_credentials
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.writing import write


def export(folder: Path | str, out: Path | None = None) -> Path:
    """Write the tensors ``model.*`` (encoders, heads, fusion), ``method.*``, ``qhat.*``, and ``trust.*``.

    ``qhat.*`` are the in-loop quantiles by head, if the method uses them.
    ``trust.*`` is the state of the `cpsc_rsc.ConformalTrust` of the inference variant ``trust``, if the run has it.

    Parameters
    ----------
    folder
        A run folder.
    out
        The file. If None, ``model.safetensors`` in the folder.

    Returns
    -------
    Path
        The file. Its metadata contain the configuration as JSON (``config``), without credentials, the ``epoch``, and
        the widths of the activations by modality, as JSON (``widths``), with which the `ConformalTrust` is built.

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
    trust = _trust(state)
    tensors |= {f"trust.{name}": value for name, value in trust["trust"].items()}
    path = out or run_folder.path / "model.safetensors"
    metadata = {"config": without_credentials(json.dumps(config)), "epoch": str(state["epoch"])}
    metadata["widths"] = json.dumps(trust["widths"])
    write(path, save({name: value.contiguous().clone() for name, value in tensors.items()}, metadata))
    return path


def _trust(state: dict[str, Any]) -> dict[str, Any]:
    """Return the widths and the state of the first variant ``trust`` in a checkpoint; empty if there is none."""
    fitted = (one for name, one in state.get("inference", {}).items() if name.partition(":")[0] == "trust")
    return next(fitted, {"widths": {}, "trust": {}})
