"""Search for options of methods on validation rows, with the same number of trials for every method."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cpsc_train.config import override, read_toml, unknown, write_toml
from cpsc_train.errors import UserError, needs
from cpsc_train.experiments.executors import Executor
from cpsc_train.experiments.grid import Grid
from cpsc_train.experiments.study import Workers, claim, completed, first_number, open_storage, queue_again
from cpsc_train.experiments.table import Table, markdown_text
from cpsc_train.experiments.task import Task
from cpsc_train.models import FUSED
from cpsc_train.output import Output
from cpsc_train.printable import without_credentials
from cpsc_train.training import RunConfig
from cpsc_train.writing import make_folder, write

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Goal = Literal["clean", "mean"]
"""Fused accuracy on clean validation rows, or its mean over clean and noisy ones."""
TUNED = "tuned.toml"
"""File with the outcome of a search."""
POLL = 1.0
"""Seconds between two looks at the trials of other processes."""
RATES: Mapping[str, float] = {"adam": 1.0, "adamw": 1.0, "adagrad": 10.0, "sgd": 20.0}
"""By optimizer, the middle of its learning rates relative to that of Adam, as in the ablation of optimizers."""
_KIND = re.compile(r"[^:+@]+:([^:+@]+)[:@]?[^:+@]*")
"""Matches a term of a noise condition as text, such as ``pix:blur@1-5``, and its kind."""
LR_FACTOR = 10.0
"""Largest factor by which the learning rate of the recipe is changed, up or down."""


@dataclass(frozen=True)
class Tuned:
    """Outcome of a search for one method."""

    best: float
    default: float
    """Fused validation accuracy in % of the best trial, and of the first one, which has the defaults."""
    trials: int
    failed: int
    """Number of completed trials, and of those among them that ended with an error, such as a non-finite loss."""
    values: dict[str, Any]
    """Values of the best trial by dotted key."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Values of the first trial."""
    goal: str = ""
    """Accuracy that was maximised."""
    conditions: tuple[str, ...] = ()
    """Conditions of the validation rows over which it was taken."""
    division: int = 0
    """Seed of the division of the data that the validation rows are from."""
    cpu_seconds: float = 0.0
    """Processor time of all trials that did not fail."""


class Tuning:
    """A search with one study per method, in a folder from which an interrupted search resumes.

    The folder has ``study.db``, a run in each ``METHOD/trial-N``, and ``tuned.toml``. `configs` are the configurations
    of the first trials, by method; `trials` is the number of trials of each. `optimizers` are searched too, each with
    its own learning rates; if empty, that of the configuration is used. `storage` is a journal file, or the URL of a
    database, in place of ``study.db``. Several processes may run the same search in the same folder: each trial is run
    by one of them, and trials of a killed one by the others. Raises UserError if optuna is not installed, there is no
    trial, or `optimizers` are unknown or lack that of a configuration.
    """

    def __init__(
        self,
        folder: Path,
        configs: Mapping[str, RunConfig],
        *,
        trials: int,
        goal: Goal,
        optimizers: tuple[str, ...] = (),
        storage: str | None = None,
    ) -> None:
        with needs("optuna", extra="tune"):
            import optuna  # noqa: F401, PLC0415  # an extra
        if trials < 1:
            raise UserError(f"trials must be at least 1, got {trials}")
        needed = {*optimizers, *(config.optimizer.kind for config in configs.values())} if optimizers else set()
        if not needed <= RATES.keys() & set(optimizers):
            known, given = ", ".join(RATES), ", ".join(optimizers)
            raise UserError(f"optimizers must be some of {known}, including that of the recipe, got {given}")
        self._folder, self._configs, self._trials, self._goal = folder, configs, trials, goal
        self._optimizers, self._storage = optimizers, storage
        self._workers = Workers(folder / "workers")

    def run(self, *, executor: Executor, console: Output, quiet: bool = False) -> dict[str, Tuned]:
        """Run the missing trials, write ``tuned.toml``, and return the outcome for each method.

        Raises UserError if the folder holds a search of other
        configurations or another goal, or every trial of a method failed.
        """
        make_folder(self._folder)
        outcomes = {}
        with self._workers.joined():
            with self._workers.alone():  # several processes cannot make the tables of a database at the same time
                storage = open_storage(self._storage, self._folder)
            for name, config in self._configs.items():
                study = self._study(storage, name, config)
                self._search(study, config, executor)
                tuned = outcomes[name] = replace(
                    _outcome(name, completed(study)), goal=self._goal, division=config.splits.seed
                )
                if not quiet:
                    line = f"{name}: {tuned.default:.1f} → {tuned.best:.1f} in {tuned.trials} trials"
                    console.print(line, soft_wrap=True)
        with self._workers.alone():  # others may end at the same time
            write_toml(self._folder / TUNED, {name: asdict(tuned) for name, tuned in outcomes.items()})
        return outcomes

    def plan(self, executor: Executor) -> str:
        """Return for each method its trials, and the job of a cluster that each would be, as text."""
        return "".join(
            executor.plan([Task(f"each of {self._trials} trials of {name}", folder / "trial-N")], folder)
            for name, folder in ((name, self._folder / name) for name in self._configs)
        )

    def _study(self, storage: BaseStorage, name: str, config: RunConfig) -> Study:
        import optuna  # noqa: PLC0415  # an extra

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        plain = json.loads(without_credentials(json.dumps(config.to_plain())))  # the storage is readable by all
        asked = {"config": plain, "goal": self._goal}
        if self._optimizers:
            asked["optimizers"] = list(self._optimizers)
        with self._workers.alone():
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
            if study.user_attrs.get("asked", asked) != asked:
                raise UserError(
                    f"{self._folder}: holds a search of another configuration or goal: choose another --out, and "
                    "another --storage if it is given"
                )
            study.set_user_attr("asked", asked)
            if not study.trials:
                defaults = {f"method.{option}": getattr(config.method, option) for option in config.method.searched}
                kind = {"optimizer.kind": config.optimizer.kind} if self._optimizers else {}
                study.enqueue_trial(kind | {"optimizer.lr": config.optimizer.lr} | defaults)
        return study

    def _search(self, study: Study, config: RunConfig, executor: Executor) -> None:
        """Run trials until all are finished, some perhaps by other processes."""
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set() and (trial := claim(study, self._workers, self._trials, config.seed)):
                    self._try(study, config, executor, trial)
            except BaseException:
                stop.set()
                raise

        while len(completed(study)) < self._trials:
            with ThreadPoolExecutor(executor.jobs) as pool:
                for future in as_completed([pool.submit(work) for _ in range(executor.jobs)]):
                    future.result()
            if len(completed(study)) < self._trials:
                time.sleep(POLL)  # others run the last trials, or are killed, and leave them to this process

    def _try(self, study: Study, config: RunConfig, executor: Executor, trial: Trial) -> None:
        import optuna  # noqa: PLC0415

        chosen = override(config, _values(config, trial, self._optimizers))
        label = f"trial-{first_number(trial)}"
        try:
            grid = Grid(self._folder / study.study_name, {label: chosen}, [config.seed])
            results = grid.run(executor=executor, console=Output(), quiet=True)
        except KeyboardInterrupt:
            queue_again(study, trial.number)
            raise
        except UserError as error:
            if not _counts(error):
                queue_again(study, trial.number)
                raise
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
        run = results[label][0]
        trial.set_user_attr("cpu_seconds", run["cpu_seconds"])
        trial.set_user_attr("conditions", judged(run, self._goal))
        study.tell(trial, validation_accuracy(run, self._goal))


def _counts(error: UserError) -> bool:
    """Return whether a trial failed by its options, and not because a run that was killed still ends in its folder."""
    return "ended with code 2" in str(error) and "another process is" not in str(error)


def judged(run: Mapping[str, Any], goal: Goal) -> list[str]:
    """Return the conditions over which `validation_accuracy` takes the mean."""
    return ["clean"] if goal == "clean" else [name for name in run["validation"] if not name.startswith("without-")]


def validation_accuracy(run: Mapping[str, Any], goal: Goal) -> float:
    """Return the fused accuracy in % of a run on validation rows."""
    figures = run["validation"]
    return 100 * float(np.mean([figures[name]["accuracy"][FUSED] for name in judged(run, goal)]))


def of_kinds(config: RunConfig, kinds: Sequence[str]) -> RunConfig:
    """Return a configuration that is evaluated only under some kinds of noise.

    Raises UserError if there is no noise of a kind.
    """
    texts = {text: _KIND.findall(text) for text in config.protocols}
    known = list(
        dict.fromkeys([*(noise.kind for noise in config.noise), *(kind for of in texts.values() for kind in of)])
    )
    for kind in kinds:
        if kind not in known:
            raise UserError(unknown("kind of noise", kind, known))
    noise = tuple(noise for noise in config.noise if noise.kind in kinds)
    return replace(config, noise=noise, protocols=tuple(text for text, of in texts.items() if set(of) <= set(kinds)))


def tuned_options(folder: Path) -> dict[str, dict[str, Any]]:
    """Return by method the best values of a search, by dotted key.

    Raises UserError if the folder holds no finished search, or ``tuned.toml`` is damaged.
    """
    if not (folder / TUNED).is_file():
        raise UserError(f"{folder}: holds no {TUNED}: run cpsc tune --out {folder} to its end first")
    result = {}
    for name, entry in read_toml(folder / TUNED).items():
        values = entry.get("values") if isinstance(entry, dict) else None
        if not isinstance(values, dict):
            raise UserError(f"{folder / TUNED}: {name}.values must be a table of values by key, got {values!r}")
        result[name] = values
    return result


def table(outcomes: Mapping[str, Tuned]) -> Table:
    """Return the outcome of a search as a table."""
    rows = [_cells(name, asdict(tuned)) for name, tuned in outcomes.items()]
    header = ["method", "default", "best", "trials", "failed", "values"]
    return Table("Fused validation accuracy, %", header, rows)


def write_choices(folder: Path, names: Sequence[str], path: Path) -> Path:
    """Write the options that a search in `folder` chose for the rows `names` of a benchmark as Markdown; return `path`.

    Rows that were not tuned are listed as such.
    """
    tuned = read_toml(folder / TUNED)
    seconds = sum(one.get("cpu_seconds", 0) for one in tuned.values())
    header = ["row", "default", "best", "trials", "failed", "values (default)"]
    rows = [_cells(name, tuned[name]) if name in tuned else [name, *"––––", _untuned(name, tuned)] for name in names]
    first: Mapping[str, Any] = next(iter(tuned.values()), {})
    conditions = ", ".join(first.get("conditions", [])) or "those of the recipe"
    text = (
        f"Options were chosen on validation rows of division {first.get('division', 0)}, and used on all divisions. "
        f"Fused accuracy in %, mean over: {conditions}. The first trial uses the defaults; failed trials count. "
        f"Processor time of all trials: {seconds / 60:.0f} minutes."
    )
    write(path, f"{markdown_text(text)}\n\n{Table('', header, rows).markdown()}")
    return path


def _untuned(name: str, tuned: Mapping[str, Any]) -> str:
    base = name.partition(",")[0]
    return f"those of {base}" if base in tuned else "not tuned"


def _cells(name: str, tuned: Mapping[str, Any]) -> list[str]:
    defaults = tuned.get("defaults", {})
    values = (
        f"{key}={value}" + (f" ({defaults[key]})" if key in defaults else "") for key, value in tuned["values"].items()
    )
    figures = (f"{tuned['default']:.1f}", f"{tuned['best']:.1f}", str(tuned["trials"]), str(tuned["failed"]))
    return [name, *figures, " ".join(values)]


def _values(config: RunConfig, trial: Trial, optimizers: tuple[str, ...] = ()) -> dict[str, Any]:
    lr, values = config.optimizer.lr, dict[str, Any]()
    if optimizers:
        kind = values["optimizer.kind"] = trial.suggest_categorical("optimizer.kind", optimizers)
        lr *= RATES[kind] / RATES[config.optimizer.kind]
    values["optimizer.lr"] = trial.suggest_float("optimizer.lr", lr / LR_FACTOR, lr * LR_FACTOR, log=True)
    for option, space in config.method.searched.items():
        key = f"method.{option}"
        if isinstance(space, tuple):
            values[key] = trial.suggest_categorical(key, space)
            continue
        ends = space.for_epochs(config.epochs)
        if isinstance(ends.low, int) and isinstance(ends.high, int):
            values[key] = trial.suggest_int(key, ends.low, ends.high, log=ends.log)
        else:
            values[key] = trial.suggest_float(key, ends.low, ends.high, log=ends.log)
    return {key: _rounded(value) for key, value in values.items()}


def _outcome(name: str, trials: list[FrozenTrial]) -> Tuned:
    values = [trial.value for trial in trials if trial.value is not None]
    if not values:
        raise UserError(f"every trial of {name} failed, the last with: {trials[-1].user_attrs['error']}")
    best = next(trial for trial in trials if trial.value == max(values))
    default = float("nan") if trials[0].value is None else trials[0].value
    chosen = {key: _rounded(value) for key, value in best.params.items()}
    first = {key: _rounded(value) for key, value in trials[0].params.items()}
    cpu = sum(trial.user_attrs.get("cpu_seconds", 0.0) for trial in trials)
    return Tuned(
        max(values),
        default,
        len(trials),
        len(trials) - len(values),
        chosen,
        first,
        conditions=tuple(best.user_attrs.get("conditions", ())),
        cpu_seconds=round(cpu, 1),
    )


def _rounded(value: Any) -> Any:
    """Return a value rounded to three significant digits, more than a search can resolve."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
