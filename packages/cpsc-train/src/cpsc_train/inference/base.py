"""Interface of an inference variant: from the features of all rows of a part to logits, without labels.

Shapes: N rows of a part, d feature width, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from cpsc_rsc import Taps
from cpsc_train.config import Choice, parse_choice
from cpsc_train.data import Dataset, Noise
from cpsc_train.methods import Method, PartFeatures
from cpsc_train.methods.base import Heads, Quantiles
from cpsc_train.models import COMPLETE, MultimodalClassifier, Present
from cpsc_train.models.multimodal import NO_TAPS

Depths = Mapping[str, Sequence[Tensor]]
"""By modality, activations (N, d_k) at several depths of its encoder."""
NO_DEPTHS: Depths = MappingProxyType({})


@dataclass(frozen=True)
class Trained:
    """A trained model with its method, in evaluation mode."""

    model: MultimodalClassifier
    method: Method
    qhat: Quantiles
    """Quantiles of the in-loop conformal predictor, by head."""
    batch_size: int | None
    """Rows in a batch of the plain evaluation. None: all rows at once."""
    seed: int
    """Seed of the run."""

    def logits(self, features: Heads, present: Present = COMPLETE) -> Heads:
        """Return the logits (N, C) by head, computed in the batches of the plain evaluation."""
        if self.batch_size is None:
            return self.method.predict(self.model, features, self.qhat, present)
        rows = len(next(iter(features.values())))
        batches = [
            self.method.predict(self.model, of_rows(features, part), self.qhat, of_rows(present, part))
            for part in _slices(rows, self.batch_size)
        ]
        # Batches are emptied, so that memory holds the logits of one head twice at most.
        return {head: torch.cat([batch.pop(head) for batch in batches]) for head in tuple(batches[0])}

    def order(self, rows: int) -> Tensor:
        """Return a permutation (N,) that depends only on the seed and the number of rows."""
        return torch.randperm(rows, generator=torch.Generator().manual_seed(self.seed))


class Source(Protocol):
    """Source of the encoded rows that variants are fitted to; what was encoded once is kept for all variants."""

    @property
    def dataset(self) -> Dataset:
        """The data set of the run."""

    def part(self, name: str, noise: Sequence[Noise] = ()) -> PartFeatures:
        """Return the features of all rows of a part, clean or with noise; with depths if a variant has `taps`."""


class Inference(ABC):
    """Base of inference variants.

    Parameters
    ----------
    config
        Options of the variant.
    trained
        The model, which a variant must leave unchanged.
    """

    taps: Mapping[str, Taps] = NO_TAPS
    """Depths at which the variant needs activations, by modality."""
    seen: Sequence[str] = ()
    """Corruptions that `fit` uses, as ``MODALITY:KIND``; listed in the results as seen kinds."""
    notes: Sequence[str] = ()
    """Sentences on what `fit` could not do, printed with the results."""
    copies: Sequence[tuple[Noise, ...]] = ()
    """Corruptions of the calibration rows, on which the prediction sets of unusual rows are calibrated."""

    by_row: ClassVar[bool] = False
    """Whether the prediction for a row does not depend on the other rows, so that a saved run can predict with it, and
    each of several processes predicts its own rows: those passed to `predict` are then any rows, not all of a part."""

    def __init__(self, config: InferenceConfig, trained: Trained) -> None:
        self.config = config
        self.trained = trained

    def prepare(self, source: Source) -> None:  # noqa: B027  # a variant may depend on no data
        """Set `seen` and `copies`; called once, before `fit` or `load_state_dict`; not where a run predicts."""

    def fit(self, source: Source) -> None:  # noqa: B027  # a variant may need no fit
        """Fit the variant to encoded rows, once after training; no test row may be used."""

    def state_dict(self) -> dict[str, Any]:
        """Return the fitted tensors, saved with the model. Empty: the variant is fitted anew where it is used."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  # a variant may have no state
        """Restore what `state_dict` returned, in place of `fit`."""

    def build_module(self, widths: Mapping[str, Sequence[int]]) -> nn.Module | None:
        """Create and return the module that holds the fitted tensors, before they are known.

        Parameters
        ----------
        widths
            By modality, the widths d_k of its activations.

        Returns
        -------
        nn.Module or None
            The module, which `predict` uses. None if the variant has none; with a state it cannot be exported then.
        """
        return None

    @abstractmethod
    def predict(self, features: Heads, present: Present = COMPLETE, depths: Depths = NO_DEPTHS) -> tuple[Heads, Heads]:
        """Predict all rows of a part under one condition.

        Called with gradients disabled. The state of one call must not affect the next.

        Parameters
        ----------
        features
            By modality, (N, d); a missing modality is absent. Zeros for rows that lack a modality.
        present
            True for rows that have a modality, {m: (N,) bool}; one that is not listed is present in all rows.
        depths
            By modality in `features`, the activations (N, d_k) at the depths of `taps`; of rows that lack the modality
            they hold any values.

        Returns
        -------
        tuple
            Logits (N, C) by head, and weights (N,) in [0, 1] by modality, empty if the variant has none.
        """

    def typicality(self, depths: Depths) -> Heads:  # a variant may have none
        """Return by modality how typical its activations (N, d_k) are, (N,) in [0, 1], 1 if nothing is unusual.

        Prediction sets of rows with a value below 1 have thresholds of their own. Empty: they go by the weights.
        """
        return {}


class InferenceConfig(Choice, plugins="cpsc_train.inference"):
    """Options of an inference variant."""

    section = "inference"
    inference: ClassVar[Callable[..., Inference]]
    """The variant with these options."""
    source: ClassVar[str] = ""
    """Source of the equations."""

    def build(self, trained: Trained) -> Inference:
        """Return the unfitted variant for a trained model."""
        return type(self).inference(self, trained)


def parse_inference(text: str) -> InferenceConfig:
    """Read ``NAME`` or ``NAME:option=value:option=value``; a colon that no option follows is part of a value.

    Raises UserError for an unknown name or option, and a value that does not fit.

    Examples
    --------
    >>> parse_inference("read:steps=2").steps
    2
    >>> parse_inference('trust:corruptions=["image:blur@1,3"]:depths=3').corruptions
    ('image:blur@1,3',)
    """
    return parse_choice(InferenceConfig, text)


def of_rows(values: Mapping[str, Tensor], rows: slice | Tensor) -> Heads:
    """Return some rows of each tensor."""
    return {m: value[rows.to(value.device) if isinstance(rows, Tensor) else rows] for m, value in values.items()}


def _slices(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, start + size)
