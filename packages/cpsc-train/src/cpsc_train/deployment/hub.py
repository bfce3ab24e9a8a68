"""Models in the form of the Hugging Face Hub; needs huggingface_hub (extra ``hub``)."""

from __future__ import annotations

import os
from typing import Any, Self

from cpsc_train.deployment.card import card_of_run, model_card
from cpsc_train.deployment.model import DeployedModel
from cpsc_train.errors import needs
from cpsc_train.runs import RunFolder

with needs("huggingface_hub", extra="hub"):
    from huggingface_hub import ModelCard, PyTorchModelHubMixin


class HubModel(DeployedModel, PyTorchModelHubMixin, library_name="cpsc-train"):
    """A `DeployedModel` with `save_pretrained`, `from_pretrained` and `push_to_hub`.

    A folder holds ``config.json``, ``model.safetensors`` and the model card ``README.md``. Loading runs no code in it,
    but imports the modules that its configuration names, such as those of encoders of your own.

    Examples
    --------
    ::

        HubModel.from_run("runs/A").save_pretrained("model")
        model = HubModel.from_pretrained("model")
    """

    _card: str | None = None

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], *, inference: str | None = None) -> Self:
        """Return the best model of a run; arguments and errors are those of `cpsc_train.load`."""
        model = super().from_run(run, inference=inference)
        model._card = card_of_run(model.description, RunFolder(run))
        return model

    def generate_model_card(self, *_args: Any, **_kwargs: Any) -> ModelCard:
        """Return the model card; the scores are those of the run, so only `from_run` knows them."""
        return ModelCard(self._card or model_card(self.description))

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **options: Any) -> Any:
        """Refuse a file that lacks a tensor, other than the mixin by default."""
        return super()._from_pretrained(strict=strict, **options)
