"""Saved states in which one entry was replaced, removed or bent: refused by name, or taken and then of use.

A state may come from a file that somebody else wrote. After a refusal the object must answer as before; after it was
taken, a prediction must not fail. Half a minute.
"""

import argparse
import copy
import sys
import warnings
from typing import Any

import numpy as np

import conformal_core as cc

PROBS = np.random.default_rng(0).dirichlet(np.ones(3), 40)
LABELS = np.random.default_rng(1).integers(0, 3, 40)
LEVELS = {
    "ACI": lambda: cc.ACI(alpha=0.1),
    "Constant": lambda: cc.Constant(0.1),
    "DtACI": lambda: cc.DtACI(alpha=0.1),
    "DecayingStep": lambda: cc.DecayingStep(alpha=0.1, start=1.0, scale=1.0),
    "ConformalPID": lambda: cc.ConformalPID(alpha=0.1, start=1.0, rate=0.05, integral=0.2),
    "SAOCP": lambda: cc.SAOCP(alpha=0.1, scale=1.0),
}
MEMORIES = {
    "History": cc.History,
    "Window": lambda: cc.Window(10),
    "Reservoir": lambda: cc.Reservoir(10),
    "Exponential": lambda: cc.Exponential(0.9),
    "Fixed": cc.Fixed,
    "Sketch": lambda: cc.Sketch(4),
}
PREDICTORS = {
    **{name: lambda made=made: cc.OnlineClassifier(cc.LAC(), level=made()) for name, made in LEVELS.items()},
    **{
        name: lambda made=made: cc.OnlineClassifier(cc.LAC(), alpha=0.1, memory=made())
        for name, made in MEMORIES.items()
    },
    "SplitClassifier": lambda: cc.SplitClassifier(cc.LAC(), alpha=0.1),
    "MondrianClassifier": lambda: cc.MondrianClassifier(cc.LAC(), alpha=0.1),
    "ClusteredClassifier": lambda: cc.ClusteredClassifier(cc.LAC(), alpha=0.3),
}
JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    -0.0,
    "",
    "x",
    "1/0",
    "0.1",
    b"x",
    [],
    {},
    (),
    object(),
    np.asarray([np.nan]),
    np.asarray([np.inf, 0.1]),
    np.asarray([[0.1, 0.2]]),
    np.asarray([0.9, 0.1, 0.5]),
    np.asarray(["a"]),
    np.asarray(0.3),
    np.zeros(0),
    np.zeros((0, 5)),
    np.asarray([0.1, 0.2, 0.3], dtype=np.complex64),
    np.full((2, 5), np.nan),
    np.asarray([None]),
    np.zeros(3, dtype=np.int8),
    np.arange(10.0)[::-1],
    np.full(8, -1.0),
    [{}],
    [1, 2, 3],
]


def places(state: dict[str, Any], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something stands in a state."""
    found = []
    items = state.items() if isinstance(state, dict) else enumerate(state)
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*path, key))
    return found


def bent(state: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a state with another value at a place."""
    made = copy.deepcopy(state)
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return made


def calibrated(make: Any) -> Any:
    """Return a predictor that has seen 40 rows."""
    predictor = make()
    if isinstance(predictor, cc.OnlineClassifier) and isinstance(predictor.memory, cc.Fixed):
        predictor.calibrate(PROBS, LABELS)
    elif isinstance(predictor, cc.OnlineClassifier):
        predictor.update(PROBS, LABELS)
    else:
        predictor.calibrate(PROBS, LABELS)
    return predictor


def fault(make: Any, state: dict[str, Any]) -> str | None:
    """Load a state; return what is wrong with how that went."""
    predictor = calibrated(make)
    before = predictor.predict(PROBS)
    try:
        predictor.load_state_dict(state)
    except (TypeError, ValueError) as error:
        if "state" not in str(error):
            return f"names no state: {error}"
        return None if np.array_equal(predictor.predict(PROBS), before) else f"changed by a refused state: {error}"
    except Exception as error:  # whatever escapes is the finding
        return f"{type(error).__name__}: {error}"
    try:
        sets = predictor.predict(PROBS)
        if isinstance(predictor, cc.OnlineClassifier):
            predictor.update(PROBS[:3], LABELS[:3])
            if np.isnan(predictor.qhat):
                return "a threshold of NaN"
    except ValueError as error:  # such as the thresholds of other classes: as good as another model's
        return None if "calibrat" in str(error) else f"taken, then {error}"
    except Exception as error:
        return f"taken, then {type(error).__name__}: {error}"
    return None if sets.shape == PROBS.shape else f"taken, then sets of shape {sets.shape}"


def main() -> int:
    """Bend every entry in every way, print a line for each kind, and return 1 if any was taken wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    junk = np.random.default_rng(options.seed).permutation(len(JUNK))[: 12 if options.quick else None]
    wrong = 0
    for name, make in PREDICTORS.items():
        state = calibrated(make).state_dict()
        tried = [(path, int(j)) for path in places(state) for j in junk]
        faults = [(path, JUNK[j], said) for path, j in tried if (said := fault(make, bent(state, path, JUNK[j])))]
        wrong += len(faults)
        print(f"{name:<22}{len(tried):>7}  " + (f"{len(faults)} FAILED, such as {faults[0]}" if faults else "ok"))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
