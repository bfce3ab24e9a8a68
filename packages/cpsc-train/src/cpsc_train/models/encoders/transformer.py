"""BERT-like encoders of text from transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_train.config.rules import COUNT, DECAY
from cpsc_train.data import Modality
from cpsc_train.errors import UserError, needs, out_of_memory, reason
from cpsc_train.models.encoder import EncoderConfig, projection


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(EncoderConfig, name="transformer"):
    """A bidirectional transformer; the hidden state of the first token represents the text."""

    rules = {"layers": COUNT, "width": COUNT, "attention_heads": COUNT, "dropout": DECAY}

    folder: str | None = None
    """A local folder with a pretrained model in safetensors. If None, a small model with random parameters."""
    layers: int = 2
    """Layers of the small model."""
    width: int = 128
    """Width of the small model."""
    attention_heads: int = 4
    """Attention heads of the small model; they divide its width."""
    dropout: float = 0.1
    """Fraction of the projected features that are dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.attention_heads:
            raise UserError(
                f"transformer.width must be a multiple of attention_heads = {self.attention_heads}, got {self.width}"
            )

    def build(self, modality: Modality, dim: int) -> nn.Module:
        """Return the module for token numbers (B, L), where 0 is padding."""
        if modality.kind != "text":
            raise UserError(f"transformer reads text, got a modality of kind {modality.kind!r}")
        model = self._pretrained() if self.folder is not None else self._small(modality)
        vocabulary, longest = model.config.vocab_size, getattr(model.config, "max_position_embeddings", None)
        if modality.vocabulary is not None and modality.vocabulary > vocabulary:
            raise UserError(f"the text has {modality.vocabulary} tokens, but the model in {self.folder} {vocabulary}")
        if longest is not None and modality.shape[0] > longest:
            raise UserError(f"the text has {modality.shape[0]} places, but the model in {self.folder} {longest}")
        return Transformer(model, projection(model.config.hidden_size, dim, self.dropout))

    def _pretrained(self) -> Any:
        folder = Path(self.folder or "")
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: is not the folder of a model (it has no config.json)")
        try:
            model, info = _transformers().AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # a damaged folder can make the library fail in any way
            if out_of_memory(error):
                raise
            raise UserError(f"{folder}: is not a readable model: {reason(error)}") from None
        absent = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if absent:
            raise UserError(
                f"{folder}: lacks the parameter {absent[0]}" + (f" and {len(absent) - 1} more" if absent[1:] else "")
            )
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # unused, so it would never get a gradient
        return model

    def _small(self, modality: Modality) -> Any:
        if modality.vocabulary is None:
            raise UserError("transformer needs a folder, or a text whose vocabulary is known")
        library = _transformers()
        config = library.BertConfig(
            vocab_size=modality.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.attention_heads,
            intermediate_size=4 * self.width,
            max_position_embeddings=modality.shape[0],
        )
        return library.BertModel(config, add_pooling_layer=False)


class Transformer(nn.Module):
    """A model of transformers and a projection.

    `model` maps tokens and their mask to hidden states (B, L, width), and `project` (B, width) to (B, d).
    """

    def __init__(self, model: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.project = project

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token numbers (B, L) to (B, d)."""
        hidden = self.model(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        features: Tensor = self.project(hidden[:, 0])
        return features


def _transformers() -> Any:
    with needs("transformers", extra="text"):
        import transformers  # noqa: PLC0415  # an extra, and slow to import
    return transformers
