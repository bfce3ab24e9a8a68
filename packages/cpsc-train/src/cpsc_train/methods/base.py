"""The door through which every training method enters the one loop."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from cpsc_train.config import Choice
from cpsc_train.models import MultimodalClassifier

Heads = dict[str, Tensor]
"""One tensor a head: each modality and ``fused``."""


@dataclass(frozen=True)
class StepLosses:
    """What a method makes of one batch.

    Parameters
    ----------
    terms
        Loss terms by name, 0-d; their sum is what is minimised.
    logits
        By head, (B, C); for the running accuracy.
    diagnostics
        0-d figures by name, averaged over an epoch and logged.
    distributions
        By kind and modality, figures in [0, 1] of any shape; their mean and a histogram an epoch are logged.
    """

    terms: dict[str, Tensor]
    logits: Heads
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    distributions: dict[str, Heads] = field(default_factory=dict)


class Method(nn.Module):
    """What one training method adds to the loop: modules, loss terms, and the logits it predicts with.

    A method owns its own modules (the loop optimises and saves them) and is handed the model; it never owns the loop.
    Everywhere, `features` are {m: (B, d)} from the encoders, and `qhat` holds the conformal quantile of each head as a
    0-d tensor, or is ``None`` while there is no conformal predictor.
    Shapes: B samples, d feature width, C classes, S scores a calibration sample.
    """

    warmup: int = 0
    """Epochs of plain training before the conformal predictor is built; no earlier epoch may be selected."""
    conformal: bool = False
    """Whether the conformal predictor takes part in training, so that it has to be refreshed in the loop."""

    @abstractmethod
    def losses(self, model: MultimodalClassifier, features: Heads, labels: Tensor, qhat: Heads | None) -> StepLosses:
        """Return the loss terms of a training batch with labels (B,)."""

    def refreshed(self, model: MultimodalClassifier) -> None:
        """Hear that all calibration samples have just been scored with `model` as it is."""

    def predict(self, model: MultimodalClassifier, features: Heads, qhat: Heads | None) -> Heads:
        """Return the logits (B, C) of samples without a label, by head."""
        return model.classify(features)

    def calibration_logits(
        self,
        model: MultimodalClassifier,
        features: Heads,
        labels: Tensor,
        qhat: Heads | None,
    ) -> Heads:
        """Return the logits (B, S, C) that the in-loop conformal predictor scores, by head; S is fixed a head."""
        return {head: logits[:, None] for head, logits in self.predict(model, features, qhat).items()}


class MethodConfig(Choice):
    """Options of a method."""

    def build(self, model: MultimodalClassifier, modalities: tuple[str, ...], *, frozen_copy: bool = False) -> Method:
        """Return the method for `model`.

        Parameters
        ----------
        model, modalities
            The model, and the names of its modalities.
        frozen_copy
            ``conformal.frozen_copy``: whether reliability is judged by heads as they were at the last refresh.
        """
        raise NotImplementedError
