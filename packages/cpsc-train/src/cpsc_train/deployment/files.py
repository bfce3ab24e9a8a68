"""Export of the best model of a run to a file, with its model card."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cpsc_train.config import unknown
from cpsc_train.deployment.card import card_of_run
from cpsc_train.deployment.description import as_texts
from cpsc_train.deployment.model import DeployedModel
from cpsc_train.errors import UserError, needs, out_of_memory, reason
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig
from cpsc_train.writing import check_writable, write

Format = Literal["safetensors", "torch-export", "onnx"]


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: Format = "safetensors",  # noqa: A002  # the name of the option
    inference: str | None = None,
) -> Path:
    """Write the best model of a run to a file, and a model card beside it (``.md``); return the file.

    Parameters
    ----------
    run
        Run folder.
    out
        The file. If None, ``model.safetensors``, ``model.pt2`` or ``model.onnx`` in the folder.
    format
        ``safetensors``: the tensors ``model.*`` (encoders, heads, fusion), ``method.*``, ``qhat.*`` (quantiles of the
        conformal predictor in the training loop, if there is one) and ``trust.*`` (the `cpsc_rsc.ConformalTrust` of the
        inference variant ``trust``), which `DeployedModel` loads. ``torch-export`` and ``onnx``: the forward pass of
        `DeployedModel` for any number of samples. Every format holds the description of the model, JSON by key.
    inference
        Inference variant, as for `cpsc_train.load`.

    Raises
    ------
    UserError
        If the format is unknown, the run cannot be loaded, a package is not installed, a step of the model cannot be
        exported, or a file cannot be written.
    """
    if format not in FORMATS:
        raise UserError(unknown("format", format, list(FORMATS)))
    suffix, content_of = FORMATS[format]
    folder = RunFolder(run)
    path = folder.path / f"model{suffix}" if out is None else Path(out)
    card = path.with_suffix(".md")
    folder.read_config()  # refuses what is not a run folder
    if card == path:
        raise UserError(f"the model card {card} would replace the model: choose a name with another suffix")
    for file in (path, card):
        check_writable(file)
    module = DeployedModel.from_run(folder, inference=inference)
    text = card_of_run(module.description, folder)
    write(path, content_of(module))
    write(card, text)
    return path


def examples(module: DeployedModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return inputs and masks of two samples for `DeployedModel.forward`: zeros, with all modalities."""
    readers = RunConfig.from_plain(module.description["config"]).data.readers(module.modalities)
    inputs = {
        m: torch.zeros(
            2,
            *(one.shape if one.spectrum is None else readers[m].values_shape),
            dtype=torch.int64 if one.kind == "text" else torch.float32,
        )
        for m, one in module.modalities.items()
    }
    return inputs, {m: torch.ones(2, dtype=torch.bool) for m in inputs}


def _safetensors(module: DeployedModel) -> bytes:
    with needs("safetensors", extra="safetensors"):
        from safetensors.torch import save  # noqa: PLC0415  # an extra
    tensors = {name: value.contiguous().clone() for name, value in module.state_dict().items()}
    return bytes(save(tensors, as_texts(module.description)))


def _torch_export(module: DeployedModel) -> bytes:
    buffer = io.BytesIO()
    texts = {"description.json": json.dumps(module.description, allow_nan=False)}
    torch.export.save(_program(module, "torch-export"), buffer, extra_files=texts)
    return buffer.getvalue()


def _onnx(module: DeployedModel) -> bytes:
    with needs("onnx", extra="onnx"):
        import onnx  # noqa: F401, PLC0415  # an extra
    with needs("onnxscript", extra="onnx"):
        import onnxscript  # noqa: F401, PLC0415  # an extra
    program = _program(module, "onnx")
    inputs, present = examples(module)
    names = [*inputs, *(f"present.{m}" for m in present)]

    def convert() -> Any:
        return torch.onnx.export(
            program, input_names=names, output_names=list(module(inputs, present)), dynamo=True, verbose=False
        )

    converted = _exporting("onnx", convert)
    converted.model.metadata_props.update(as_texts(module.description))
    content: bytes = _exporting("onnx", converted.model_proto.SerializeToString)
    return content


def _program(module: DeployedModel, form: Format) -> torch.export.ExportedProgram:
    """Return the forward pass for any number of samples."""
    arguments = examples(module)
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({m: {0: batch} for m in values} for values in arguments)
    program: torch.export.ExportedProgram = _exporting(
        form, lambda: torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
    )
    return program


def _exporting(form: Format, step: Callable[[], Any]) -> Any:
    """Return the result of a step; UserError if a part of the model does not support it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the exporter are about its own code
            return step()
    except Exception as error:  # an encoder, a fusion or a method of any origin can fail in any way
        if out_of_memory(error):
            raise
        raise UserError(
            f"the model cannot be exported as {form} ({reason(error)}): choose --format safetensors, or serve the run "
            "with cpsc_train.load"
        ) from None


FORMATS: dict[Format, tuple[str, Callable[[DeployedModel], bytes]]] = {
    "safetensors": (".safetensors", _safetensors),
    "torch-export": (".pt2", _torch_export),
    "onnx": (".onnx", _onnx),
}
