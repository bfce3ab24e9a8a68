"""Trials of a search, which several processes and machines share: each trial is claimed by one of them."""

from __future__ import annotations

import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_train.errors import UserError, reason
from cpsc_train.printable import without_credentials
from cpsc_train.writing import locked, make_folder, refuse_link

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FIRST = "first"
"""Attribute of a trial that continues an interrupted one: the number of that one, whose run folder it uses."""
WORKER = "worker"
"""Attribute of a trial: the name of the worker that runs it."""


class Workers:
    """The processes that share a search.

    Each holds a lock in a subfolder of `folder` as long as it lives, which the operating system releases however the
    process ends, so that others can tell whether a trial is running or was killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be one of the workers within the block."""
        own = self._folder / self.name
        make_folder(own)
        try:
            with locked(own):
                yield
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other worker is in such a block."""
        return locked(self._folder, wait=True)

    def alive(self, name: str) -> bool:
        """Return whether the worker of that name is running."""
        if not (self._folder / name).is_dir():
            return False
        try:
            with locked(self._folder / name):
                return False
        except UserError:
            return True


def open_storage(place: str | None, folder: Path) -> BaseStorage:
    """Open a journal file, the database at a URL or, if `place` is None, ``study.db`` in `folder`.

    Raises UserError if it cannot be opened.
    """
    import optuna  # noqa: PLC0415  # an extra
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    file = folder / "study.db" if place is None else Path(place)
    if place is None or "://" not in place:
        make_folder(file.parent)
        refuse_link(file)
    try:
        if place is not None and "://" not in place:
            return optuna.storages.JournalStorage(JournalFileBackend(str(file)))
        return optuna.storages.RDBStorage(f"sqlite:///{file}" if place is None else place)
    except Exception as error:  # a driver of a database can fail in any way
        what = without_credentials(f"{place or file}: cannot be opened as storage ({reason(error)})")
        raise UserError(f"{what}: check --storage and the driver of the database") from None


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that count, in the order in which they first started."""
    import optuna  # noqa: PLC0415

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return sorted(study.get_trials(deepcopy=False, states=states), key=first_number)


def first_number(trial: Trial | FrozenTrial) -> int:
    """Return the number of a trial, or that of the interrupted trial that it continues."""
    return int(trial.user_attrs.get(FIRST, trial.number))


def claim(study: Study, workers: Workers, trials: int, seed: int) -> Trial | None:
    """Return the next trial for this worker, one of `trials` in all; None if all are finished or claimed by others.

    Trials of killed workers come first. The values of a trial depend on `seed`, its number and the finished trials.
    """
    import optuna  # noqa: PLC0415

    with workers.alone():
        _queue_killed(study, workers)
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        if len(completed(study)) + len(running) >= trials:
            return None
        own = optuna.load_study(study_name=study.study_name, storage=study._storage)
        trial = own.ask()
        trial.set_user_attr(WORKER, workers.name)
    drawn = np.random.SeedSequence([seed, first_number(trial)]).generate_state(1)[0]
    own.sampler = optuna.samplers.TPESampler(seed=int(drawn))
    return trial


def queue_again(study: Study, number: int) -> None:
    """Queue an interrupted trial with its values, to resume in its run folder; it does not count."""
    import optuna  # noqa: PLC0415

    states = optuna.trial.TrialState
    trial = study.get_trials(deepcopy=False)[number]
    waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))
    if first_number(trial) not in {first_number(other) for other in waiting}:  # a kill before the next step
        fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
        study.enqueue_trial(fixed | trial.params, user_attrs={FIRST: first_number(trial)})
    study.tell(number, state=states.FAIL)


def _queue_killed(study: Study, workers: Workers) -> None:
    """Queue the trials of killed workers again, even those without values yet."""
    import optuna  # noqa: PLC0415

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if not workers.alive(str(trial.user_attrs.get(WORKER, "-"))):
            queue_again(study, trial.number)
