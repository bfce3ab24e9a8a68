"""States of a newer version are refused by name."""

import pytest
import torch

from cpsc_rsc import ConformalTrust, MultimodalSelfCalibration, RepresentationSelfCalibration

MADE = {
    "linear": lambda: RepresentationSelfCalibration(4, components=3, top_k=2),
    "mlp": lambda: RepresentationSelfCalibration(4, components=3, top_k=2, decomposition="mlp"),
    "modalities": lambda: MultimodalSelfCalibration({"audio": 4, "video": 4}, components=3, top_k=2),
    "trust": lambda: ConformalTrust({"audio": (4,)}, alpha=0.2),
}


@pytest.mark.parametrize("name", MADE)
def test_a_state_of_a_newer_version_is_refused(tmp_path, name):
    state = MADE[name]().state_dict()
    for metadata in state._metadata.values():
        metadata["version"] = 2
    torch.save(state, tmp_path / "newer.pt")
    with pytest.raises(
        RuntimeError, match=r"(Decomposition|ConformalTrust) must have version 1 or less, got 2: .* install that one"
    ):
        MADE[name]().load_state_dict(torch.load(tmp_path / "newer.pt", weights_only=True))
