"""Variants of a configuration; an ablation changes one option at a time, a benchmark the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cpsc_train.config import override, unknown
from cpsc_train.errors import UserError
from cpsc_train.evaluation.curves import held_out, kinds
from cpsc_train.experiments.grid import Results
from cpsc_train.methods import MethodConfig
from cpsc_train.models import FUSED
from cpsc_train.training import RunConfig, reconfigured, with_method

Values = dict[str, Any]
"""Values of a configuration by dotted key."""
Settings = Mapping[str, Sequence[str]]
"""Variants of the command line: ``key=value`` settings by name."""
NONE: Settings = MappingProxyType({})


def parse_variants(texts: Iterable[str]) -> dict[str, list[str]]:
    """Read ``NAME: key=value key=value`` texts.

    Raises UserError for anything else, and for a name that occurs twice.

    Examples
    --------
    >>> parse_variants(["literal: method.name=cpsc-literal method.divergence=js"])
    {'literal': ['method.name=cpsc-literal', 'method.divergence=js']}
    """
    result: dict[str, list[str]] = {}
    for text in texts:
        name, colon, settings = text.partition(":")
        name = name.strip()
        if not colon or not name or not settings.split():
            raise UserError(f"a variant must read 'NAME: key=value key=value', got {text!r}")
        if name in result:
            raise UserError(f"variants must be different, got {name} twice")
        result[name] = settings.split()
    return result


def _refresh(_: RunConfig) -> dict[str, Values]:
    policies = ("exact", "rolling", "interval:5", "interval:20", "epoch")
    return {f"refresh {policy}": {"conformal.refresh": policy} for policy in policies}


def _warmup(config: RunConfig) -> dict[str, Values]:
    epochs = sorted({1, max(1, config.epochs // 20), config.epochs // 4, config.epochs // 2} - {0})
    return {f"warm-up {n}": {"method.warmup": n} for n in epochs}


OPTIMIZERS: dict[str, Values] = {
    "SGD": {"optimizer.kind": "sgd", "optimizer.lr": 0.02},
    "Adam": {"optimizer.kind": "adam", "optimizer.lr": 0.001},
    "Adagrad": {"optimizer.kind": "adagrad", "optimizer.lr": 0.01},
    "AdamW": {"optimizer.kind": "adamw", "optimizer.weight_decay": 0.01},
}


def _optimizers(config: RunConfig) -> dict[str, Values]:
    """Return each optimizer with the method and, as ``NAME, neither``, with neither RSC nor GSC."""
    result: dict[str, Values] = {}
    for name, values in OPTIMIZERS.items():
        own = values["optimizer.kind"] == config.optimizer.kind  # which keeps its learning rate
        result[name] = {} if own else values
        result[f"{name}, neither"] = result[name] | {"method.name": "joint-unimodal"}
    return result


AXES: dict[str, Callable[[RunConfig], dict[str, Values]]] = {
    "parts": lambda _: {
        "joint": {"method.name": "joint"},
        "neither (joint + unimodal)": {"method.name": "joint-unimodal"},
        "GSC only": {"method.parts": "gsc"},
        "RSC only": {"method.parts": "rsc"},
    },
    "refresh": _refresh,
    "warm-up": _warmup,
    "optimizer": _optimizers,
}
"""By name, the variants along one axis for the configuration that is ablated."""
REFERENCES: dict[str, dict[str, str]] = {"optimizer": {name: f"{name}, neither" for name in OPTIMIZERS}}
"""By axis, the variant that another one of the axis is compared with, where that is not the first."""


def ablated(config: RunConfig) -> RunConfig:
    """Return the configuration that an ablation starts from: with both parts of ``cpsc`` if it has neither."""
    neither = config.to_plain()["method"].get("parts") == "neither"
    return override(config, {"method.parts": "both"}) if neither else config


def variants(base: RunConfig, axes: Sequence[str], more: Settings = NONE) -> dict[str, RunConfig]:
    """Return the configurations to run, ``full`` (which is `base`) first; one that changes nothing is left out.

    `axes` are names in `AXES`, and `more` further variants. Raises UserError for an unknown axis, or a value that does
    not fit.
    """
    for axis in axes:
        if axis not in AXES:
            raise UserError(unknown("axis", axis, list(AXES)))
    configs = {name: reconfigured(base, values=values) for axis in axes for name, values in AXES[axis](base).items()}
    configs |= {name: reconfigured(base, settings) for name, settings in more.items()}
    result = {"full": base}
    for name, config in configs.items():
        if config not in result.values():
            result[name] = config
    return result


def references(base: RunConfig, axes: Sequence[str], configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """Return the variants to compare others with, by the names that they have in `configs`, from `variants`."""

    def name_of(axis: str, variant: str) -> str:
        config = reconfigured(base, values=AXES[axis](base)[variant])
        return next(name for name, other in configs.items() if other == config)

    return {
        name_of(axis, variant): name_of(axis, other)
        for axis in axes
        for variant, other in REFERENCES.get(axis, {}).items()
    }


def contenders(
    base: RunConfig,
    methods: Sequence[str],
    more: Settings = NONE,
    tuned: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, RunConfig]:
    """Return the configurations to run, by method.

    The method that `base` names keeps its options; every other one has its defaults, with options that count epochs
    scaled to the length of the run. `methods` are names, or ``["all"]``; `more` are further rows, settings on top of
    `base`, ``method.name`` among them if need be; `tuned` has, by row, values by dotted key on top of its own. A
    further row ``NAME, …`` that was not tuned itself has the values of NAME. Raises UserError for an unknown method, a
    name that occurs twice, or a value that does not fit.
    """
    result: dict[str, RunConfig] = {}
    for name in list(MethodConfig.installed()) if list(methods) == ["all"] else methods:
        if name in result:
            raise UserError(f"methods must be different, got {name} twice")
        method = base.method if name == base.method.name else MethodConfig.named(name).for_epochs(base.epochs)
        result[name] = override(with_method(base, method), tuned.get(name, {}))
    for name, settings in more.items():
        if name in result:
            raise UserError(f"methods and variants must be different, got {name} twice")
        values = tuned.get(name, tuned.get(name.partition(",")[0], {}))
        result[name] = override(reconfigured(base, settings), values)
    return result


OWN = "plain"
"""The inference of the method itself."""
COLUMNS = (
    *("data", "row", "method", "inference", "division", "overlap", "seed", "condition", "modality", "kind", "level"),
    *("seen", "accuracy", "macro_f1", "ece", "coverage", "size", "cpu_seconds"),
)
"""Columns of `lines`. ``row`` is the name of the variant, with the inference; ``overlap`` that of a grid; ``kind`` is
``clean``, ``absent`` or that of a corruption; ``seen`` is 1 if training or the inference was fitted on that kind;
``size`` is the mean size of prediction sets, and ``cpu_seconds`` the cost of training and evaluation."""


def expanded(results: Results) -> Results:
    """Return the runs with an additional row for each inference variant, named ``VARIANT + INFERENCE``.

    Examples
    --------
    >>> run = {"test": 1, "inference": {"trust": {"test": 2, "validation": 3, "seen": []}}}
    >>> {name: runs[0]["test"] for name, runs in expanded({"joint": [run]}).items()}
    {'joint': 1, 'joint + trust': 2}
    """
    rows: Results = {}
    for name, runs in results.items():
        rows[name] = runs
        for inference in runs[0].get("inference", {}):
            rows[f"{name} + {inference}"] = [_inferred(run, inference) for run in runs]
    return rows


def _inferred(run: Mapping[str, Any], inference: str) -> dict[str, Any]:
    figures = run["inference"][inference]
    training = run.get("seen", {}).get("training", [])
    seen = dict.fromkeys([*training, *figures.get("seen", [])])
    result = {**run, **figures, "seen": {"training": list(seen)}, "variant": inference}
    if isinstance(figures["test"], Mapping):
        parts = {part: figures[part]["clean"]["coverage"] for part in ("validation", "test")}
        result["coverage"] = run["coverage"] | parts
    return result


def lines(results: Results) -> Iterator[list[object]]:
    """Yield the values of `COLUMNS` for every run of expanded results, on test rows, after the names of the columns."""
    yield list(COLUMNS)
    for name, runs in results.items():
        for run in runs:
            corruptions, unseen = run.get("conditions", {}), held_out(run)
            for condition, figures in run["test"].items():
                modality, kind, level = _described(condition, corruptions.get(condition, []))
                yield [
                    run["data"]["name"],
                    name,
                    run["method"],
                    run.get("variant", OWN),
                    run.get("division", 0),
                    f"{run.get('overlap', 0.0):.4g}",
                    run["seed"],
                    condition,
                    modality,
                    kind,
                    level,
                    int(not unseen.get(condition, True)),
                    *(f"{value:.5g}" for value in _figures(figures)),
                    f"{_cpu(run):.3g}",
                ]


def _described(condition: str, parts: list[dict[str, Any]]) -> tuple[str, str, object]:
    """Return the modalities, the kinds and the level of a condition."""
    if condition.startswith("without-"):
        return condition.removeprefix("without-"), "absent", ""
    if not parts:
        return "", condition, ""
    names = [kind.partition(":")[2] for kind in kinds(parts)]
    levels = {part["level"] if part["level"] is not None else part["severity"] for part in parts}
    level = levels.pop() if len(levels) == 1 else ""
    return "+".join(part["modality"] for part in parts), "+".join(dict.fromkeys(names)), level


def _figures(figures: Mapping[str, Any]) -> list[float]:
    names = ("accuracy", "macro_f1", "expected_calibration_error")
    sets = figures["coverage"][FUSED]
    return [*(float(figures[name][FUSED]) for name in names), float(sets["coverage"]), float(sets["mean_size"])]


def _cpu(run: Mapping[str, Any]) -> float:
    return float(run["cpu_seconds"])
