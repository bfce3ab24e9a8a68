"""Modules answer as in the release that saved them, and refuse the state of a newer one.

Run as a script, this adds the states of this version to ``released/``. A file there is never changed.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cpsc_rsc
import cpsc_rsc.callbacks
from cpsc_rsc import (
    ConformalTrust,
    HeldOutCopy,
    MultimodalSelfCalibration,
    RepresentationSelfCalibration,
    TappedEncoder,
)
from cpsc_rsc.callbacks import HeadOutputs, HeadQuantiles

FOLDER = Path(__file__).parent / "released"
MADE = {
    "linear": lambda: RepresentationSelfCalibration(4, components=3, top_k=2),
    "mlp": lambda: RepresentationSelfCalibration(4, components=3, top_k=2, decomposition="mlp"),
    "modalities": lambda: MultimodalSelfCalibration({"audio": 4, "video": 4}, components=3, top_k=2),
    "quantiles": lambda: HeadQuantiles(["audio", "video"], alpha=0.2),
    "tapped": lambda: TappedEncoder(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))),
    "trust": lambda: ConformalTrust({"audio": (4, 4), "video": (4,)}, alpha=0.2),
}


def fit(name, module, h, labels):
    """Fit what is fitted to rows."""
    features = {"audio": h, "video": 2 * h.flip(0)}
    if name == "quantiles":
        module.calibrate([HeadOutputs(features, labels)])
    if name == "trust":
        depths = {"audio": (h, h.square()), "video": (h,)}
        module.update(depths)
        module.calibrate(depths)
        distances = module.distances({"audio": (9 * h.flip(0), h), "video": (h,)})
        clean = HeldOutCopy(features=features, distances=module.distances(depths), labels=labels, clean=True)
        noisy = HeldOutCopy(features=features | {"audio": 9 * h.flip(0)}, distances=distances, labels=labels)
        module.fit_curve([clean, noisy], lambda features, _: features["audio"] + features["video"].flip(0))


@torch.no_grad()
def answers(name, module, h, labels):
    """Return what a module computes for rows."""
    qhat, of = torch.tensor(0.9), {"audio": h, "video": 2 * h}
    if name == "quantiles":
        return [*module().values()]
    if name == "tapped":
        features, depths = module(h)
        return [features, *depths]
    if name == "trust":
        depths = {"audio": (3 * h, h.square()), "video": (h,)}
        return [*module.novelty(depths).values(), *module.weights(depths).values()]
    if name == "modalities":
        outputs = module(of, labels, heads=dict.fromkeys(of, nn.Identity()), qhat=dict.fromkeys(of, qhat)).values()
    else:
        outputs = [module(h, labels, head=nn.Identity(), qhat=qhat)]
    return [value for output in outputs for value in (output.recomposed, output.reliability, output.divergence)]


def write(path):
    """Save rows, and for every module its state, the versions that torch adds to it, and what it computes."""
    labels = np.arange(60) % 4
    h = 2 * np.eye(4)[labels] + np.random.default_rng(0).normal(size=(60, 4))
    arrays = {"rows/rows/h": h.astype(np.float32), "rows/rows/labels": labels}
    rows = [torch.from_numpy(array) for array in arrays.values()]
    for name, make in MADE.items():
        module = make()
        fit(name, module, *rows)
        state = module.state_dict()
        arrays |= {f"{name}/state/{key}": value.numpy() for key, value in state.items()}
        arrays |= {f"{name}/version/{key}": np.array(value["version"]) for key, value in state._metadata.items()}
        arrays |= {f"{name}/answer/{i}": value.numpy() for i, value in enumerate(answers(name, module, *rows))}
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        np.savez_compressed(file, **arrays)


def check(path, rtol, atol):
    """Compare what the modules of a file compute with what they computed there."""
    modules = {}
    with np.load(path, allow_pickle=False) as file:
        for entry in file.files:
            name, part, key = entry.split("/")
            modules.setdefault(name, {}).setdefault(part, OrderedDict())[key] = torch.from_numpy(file[entry])
    rows = modules.pop("rows")["rows"].values()
    for name, parts in modules.items():
        module, state = MADE[name](), parts["state"]
        state._metadata = OrderedDict((key, {"version": int(value)}) for key, value in parts["version"].items())
        module.load_state_dict(state)
        for got, wanted in zip(answers(name, module, *rows), parts["answer"].values(), strict=True):
            torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
    return set(modules)


def test_every_module_is_here():
    public = [getattr(package, name) for package in (cpsc_rsc, cpsc_rsc.callbacks) for name in package.__all__]
    modules = {one for one in public if isinstance(one, type) and issubclass(one, nn.Module)}
    assert modules <= {type(part) for make in MADE.values() for part in make().modules()}


def test_states_that_are_written_now_are_read(tmp_path):
    write(tmp_path / "now.npz")
    assert check(tmp_path / "now.npz", 0, 0) == set(MADE)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.npz")))
def test_states_of_a_released_version_are_read(name):
    check(FOLDER / name, 1e-5, 1e-6)  # another machine may add in another order, in single precision


@pytest.mark.parametrize("name", [name for name in MADE if name != "tapped"])  # its state is that of its encoder
def test_a_state_of_a_newer_version_is_refused(name):
    state = MADE[name]().state_dict()
    for metadata in state._metadata.values():
        metadata["version"] = 2
    of = "Decomposition|ConformalTrust|HeadQuantiles"
    with pytest.raises(RuntimeError, match=rf"({of}) must have version 1 or less, got 2: .* install that one"):
        MADE[name]().load_state_dict(state)


if __name__ == "__main__":
    write(FOLDER / f"{cpsc_rsc.__version__}.npz")
