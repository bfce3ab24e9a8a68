"""Digits as an exported model reads them: some lack a modality, and some are noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import cpsc_train
from cpsc_train.prediction import PredictionBatch


@dataclass(frozen=True)
class Samples:
    """Inputs and masks of a batch, and by inference variant what the run predicts for it."""

    inputs: dict
    present: dict
    expected: dict[str, PredictionBatch]

    def check(self, outputs, inference):
        """Compare outputs with the predictions of the run."""
        expected = self.expected[inference]
        np.testing.assert_allclose(outputs["probabilities"], expected.probabilities, atol=1e-5)
        np.testing.assert_array_equal(outputs["sets"], expected.sets)
        assert {name for name in outputs if name.startswith("trust.")} == {f"trust.{m}" for m in expected.trust}
        for m, trust in expected.trust.items():
            np.testing.assert_allclose(outputs[f"trust.{m}"], np.nan_to_num(trust), atol=1e-5)


@pytest.fixture(scope="session")
def samples(digits):
    """33 test rows."""
    rng = np.random.default_rng(0)
    rows = {m: values[:33].copy() for m, values in digits.given().items()}
    rows["fou"][::3] += rng.normal(scale=0.3, size=rows["fou"][::3].shape).astype(np.float32)
    rows["pix"][:4] = rows["fou"][4:8] = np.nan
    expected = {one: cpsc_train.load(digits.run, inference=one).predict(rows) for one in ("plain", "trust")}
    assert expected["trust"].trust["fou"][9] < 1
    inputs = {"pix": torch.from_numpy(rows["pix"]).reshape(-1, 1, 16, 15), "fou": torch.from_numpy(rows["fou"])}
    return Samples(inputs, {m: ~x.flatten(1).isnan().all(1) for m, x in inputs.items()}, expected)
