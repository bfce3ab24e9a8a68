"""States that released versions have saved load, and give the components that they gave there.

``python packages/cpsc-rsc/tests/test_upgrades.py`` freezes what this version saves, as a part of its release.
"""

from pathlib import Path

import pytest
import torch

import cpsc_rsc
from cpsc_rsc import ConformalGate, MultimodalSelfCalibration, RepresentationSelfCalibration

GOLDEN = Path(__file__).with_name("golden")
FEATURES = torch.linspace(-1, 1, 12).reshape(3, 4)
MADE = {
    "linear": lambda: RepresentationSelfCalibration(4, components=3, top_k=2),
    "mlp": lambda: RepresentationSelfCalibration(4, components=3, top_k=2, decomposition="mlp"),
    "modalities": lambda: MultimodalSelfCalibration({"audio": 4, "video": 4}, components=3, top_k=2),
    "gate": lambda: ConformalGate({"audio": 4}, classes=2, alpha=0.2),
}


def answers(made):
    if isinstance(made, ConformalGate):
        return made.weights({"audio": 3 * FEATURES})["audio"]
    parts = made.values() if isinstance(made, MultimodalSelfCalibration) else [made]
    return torch.stack([part.components(FEATURES) for part in parts]).detach()


def freeze():
    torch.manual_seed(0)
    made = {name: make() for name, make in MADE.items()}
    training, calibration = ({"audio": torch.randn(n, 4)} for n in (40, 20))
    made["gate"].fit(training, torch.arange(40) % 2, calibration)
    GOLDEN.mkdir(exist_ok=True)
    frozen = {name: {"state": one.state_dict(), "answers": answers(one)} for name, one in made.items()}
    torch.save(frozen, GOLDEN / f"{cpsc_rsc.__version__}.pt")


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.pt")), ids=lambda file: file.stem)
def test_a_state_of_a_released_version_gives_what_it_gave_there(file, name):
    frozen = torch.load(file, weights_only=True)[name]
    fresh = MADE[name]()
    fresh.load_state_dict(frozen["state"])
    torch.testing.assert_close(answers(fresh), frozen["answers"])


@pytest.mark.parametrize("name", MADE)
def test_a_state_of_a_newer_version_is_refused(tmp_path, name):
    state = MADE[name]().state_dict()
    for metadata in state._metadata.values():
        metadata["version"] = 3
    torch.save(state, tmp_path / "newer.pt")
    with pytest.raises(
        RuntimeError, match=r"(Decomposition|ConformalGate) must have version [12] or less, got 3: .* install that one"
    ):
        MADE[name]().load_state_dict(torch.load(tmp_path / "newer.pt", weights_only=True))


if __name__ == "__main__":
    freeze()
