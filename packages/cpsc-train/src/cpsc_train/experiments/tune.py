"""A search for good options of each method, on validation rows alone, with as many trials for every method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table

from cpsc_train.config import override, read_toml, write_toml
from cpsc_train.errors import UserError, needs
from cpsc_train.experiments.grid import Grid
from cpsc_train.models import FUSED
from cpsc_train.output import Output
from cpsc_train.shown import without_credentials
from cpsc_train.training import RunConfig
from cpsc_train.writing import make_folder, refuse_link

if TYPE_CHECKING:
    from optuna import Study, Trial

Goal = Literal["clean", "mean"]
"""Fused accuracy on clean validation rows, or its mean over clean and noisy ones."""
FOUND = "tuned.toml"
"""What `Tuning.run` leaves behind, beside the runs."""
FIRST = "first"
"""Attribute of a trial that goes on with one that was stopped: the number of that one, whose run folder it has."""
OPTIMIZER = 10.0
"""By what factor at most the learning rate of the recipe is changed, up or down."""


@dataclass(frozen=True)
class Tuned:
    """What was found for a method.

    Parameters
    ----------
    values
        Values of the best trial by dotted key.
    best, default
        Fused validation accuracy in %, of the best trial and with the defaults, which are the first.
    trials
        How many came to an end.
    failed
        How many of them with an error, such as a loss that is not finite.
    """

    values: dict[str, Any]
    best: float
    default: float
    trials: int
    failed: int


class Tuning:
    """A study a method, in one folder that a stopped search goes on from.

    Parameters
    ----------
    folder
        Holds ``study.db``, ``METHOD/trial-N`` with a run each, and in the end ``tuned.toml``.
    configs
        By method, what the search starts from.
    trials
        How many each method has, the first with what it starts from.
    goal
        What is to be high.

    Raises
    ------
    UserError
        If optuna is not installed, or there is no trial.
    """

    def __init__(self, folder: Path, configs: Mapping[str, RunConfig], *, trials: int, goal: Goal) -> None:
        require_optuna()
        if trials < 1:
            raise UserError(f"trials must be at least 1, got {trials}")
        self._folder, self._configs, self._trials, self._goal = folder, configs, trials, goal

    def run(self, *, jobs: int, console: Output, quiet: bool = False) -> dict[str, Tuned]:
        """Do the trials that are not done, write ``tuned.toml``, and return what was found.

        Parameters
        ----------
        jobs
            Trials at a time, each a process.
        console, quiet
            Where progress is shown, and whether.

        Raises
        ------
        UserError
            If the folder holds a search of other configurations or another goal, or every trial of a method failed.
        """
        if jobs < 1:
            raise UserError(f"jobs must be at least 1, got {jobs}")
        make_folder(self._folder)
        refuse_link(self._folder / "study.db")
        found = {}
        for name, config in self._configs.items():
            study = self._study(name, config)
            left = self._trials - len(_ended(study))
            if left > 0:
                study.optimize(partial(self._try, name, config), n_trials=left, n_jobs=jobs)
            found[name] = self._outcome(name, study)
            if not quiet:
                best = found[name]
                console.print(f"{name}: {best.default:.1f} → {best.best:.1f} in {best.trials} trials", soft_wrap=True)
        write_toml(self._folder / FOUND, {name: _plain(tuned) for name, tuned in found.items()})
        return found

    def _study(self, name: str, config: RunConfig) -> Study:
        import optuna  # noqa: PLC0415  # an extra

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{self._folder / 'study.db'}",
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=config.seed),
            load_if_exists=True,
        )
        plain = json.loads(without_credentials(json.dumps(config.to_plain())))  # the file of a study can be read by all
        asked = {"config": plain, "goal": self._goal}
        if study.user_attrs.get("asked", asked) != asked:
            raise UserError(f"{self._folder}: holds a search of another configuration or goal: choose another --out")
        study.set_user_attr("asked", asked)
        _queue_what_was_killed(study)
        if not study.trials:
            study.enqueue_trial(_start(config))
        return study

    def _try(self, name: str, config: RunConfig, trial: Trial) -> float:
        import optuna  # noqa: PLC0415

        chosen = override(config, _values(config, trial))
        first = trial.user_attrs.get(FIRST, trial.number)
        label = f"trial-{first}"
        try:
            results = Grid(self._folder / name, {label: chosen}, [config.seed]).run(
                jobs=1, console=Output(), quiet=True
            )
        except KeyboardInterrupt:
            _queue_again(trial.study, trial.params, first)  # to be tried again, and not to count
            raise
        except UserError as error:
            if "ended with code 2" not in str(error):  # only what the options have led to counts as a trial
                _queue_again(trial.study, trial.params, first)
                raise
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from None
        return validation_accuracy(results[label][0], self._goal)

    def _outcome(self, name: str, study: Study) -> Tuned:
        ended = _ended(study)
        done = [trial for trial in ended if trial.value is not None]
        if not done:
            raise UserError(f"every trial of {name} failed, the last with: {ended[-1].user_attrs['error']}")
        best = max(done, key=lambda trial: trial.value)
        default = float("nan") if ended[0].value is None else ended[0].value
        values = {key: _rounded(value) for key, value in best.params.items()}
        return Tuned(values, best.value, default, len(ended), len(ended) - len(done))


def validation_accuracy(run: Mapping[str, Any], goal: Goal) -> float:
    """Return the fused accuracy in % of a run on validation rows; its test rows are not looked at."""
    seen = run["validation"]
    names = ["clean"] if goal == "clean" else [name for name in seen if not name.startswith("without-")]
    return 100 * float(np.mean([seen[name]["accuracy"][FUSED] for name in names]))


def tuned_options(folder: Path) -> dict[str, dict[str, Any]]:
    """Return by method the best values of a search, by dotted key.

    Raises
    ------
    UserError
        If the folder holds no finished search, or its outcome is damaged.
    """
    if not (folder / FOUND).is_file():
        raise UserError(f"{folder}: holds no {FOUND}: run cpsc tune --out {folder} to its end first")
    found = {}
    for name, entry in read_toml(folder / FOUND).items():
        values = entry.get("values") if isinstance(entry, dict) else None
        if not isinstance(values, dict):
            raise UserError(f"{folder / FOUND}: {name}.values must be a table of values by key, got {values!r}")
        found[name] = values
    return found


def table(found: Mapping[str, Tuned]) -> Table:
    """Return what was found, for a terminal."""
    result = Table(title="Fused validation accuracy, %", title_justify="left")
    for name in ("method", "default", "best", "trials", "failed", "values"):
        result.add_column(name, justify="left" if name in {"method", "values"} else "right")
    for name, tuned in found.items():
        figures = (f"{tuned.default:.1f}", f"{tuned.best:.1f}", str(tuned.trials), str(tuned.failed))
        result.add_row(name, *figures, " ".join(f"{key}={value}" for key, value in tuned.values.items()))
    return result


def require_optuna() -> None:
    """Refuse to begin without optuna.

    Raises
    ------
    UserError
        If it is not installed.
    """
    with needs("optuna", extra="tune"):
        import optuna  # noqa: F401, PLC0415  # an extra


def _start(config: RunConfig) -> dict[str, Any]:
    method = {f"method.{option}": getattr(config.method, option) for option in config.method.search}
    return {"optimizer.lr": config.optimizer.lr} | method


def _values(config: RunConfig, trial: Trial) -> dict[str, Any]:
    lr = config.optimizer.lr
    found: dict[str, Any] = {
        "optimizer.lr": trial.suggest_float("optimizer.lr", lr / OPTIMIZER, lr * OPTIMIZER, log=True)
    }
    for option, space in config.method.search.items():
        key = f"method.{option}"
        if isinstance(space, tuple):
            found[key] = trial.suggest_categorical(key, space)
        elif isinstance(space.low, int) and isinstance(space.high, int):
            found[key] = trial.suggest_int(key, space.low, space.high, log=space.log)
        else:
            found[key] = trial.suggest_float(key, space.low, space.high, log=space.log)
    return {key: _rounded(value) for key, value in found.items()}


def _ended(study: Study) -> list[Any]:
    import optuna  # noqa: PLC0415

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _plain(tuned: Tuned) -> dict[str, Any]:
    figures = {"best": tuned.best, "default": tuned.default, "trials": tuned.trials, "failed": tuned.failed}
    return figures | {"values": tuned.values}


def _queue_again(study: Study, params: dict[str, Any], first: int) -> None:
    """Queue a trial that was stopped; `first` is the number of its run folder, with which it goes on."""
    study.enqueue_trial(params, user_attrs={FIRST: first})


def _queue_what_was_killed(study: Study) -> None:
    """Queue each trial that no process is at any more, also where nothing was drawn for it yet; it does not count."""
    import optuna  # noqa: PLC0415

    states = optuna.trial.TrialState
    queued = {trial.user_attrs.get(FIRST) for trial in study.get_trials(states=(states.WAITING,))}
    for trial in study.get_trials(states=(states.RUNNING,)):
        first = trial.user_attrs.get(FIRST, trial.number)
        if first not in queued:  # a kill between the two steps below would queue it twice
            _queue_again(study, trial.system_attrs.get("fixed_params", {}) | trial.params, first)
        study.tell(trial.number, state=states.FAIL)


def _rounded(value: Any) -> Any:
    """Return a value with three significant digits, which are all that a search can tell apart."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
