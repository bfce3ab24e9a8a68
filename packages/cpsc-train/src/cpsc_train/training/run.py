"""Entry points: train a run, resume it, evaluate it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from cpsc_train.data import Dataset, Noise, Splits
from cpsc_train.errors import DataError, UserError
from cpsc_train.models import FUSED
from cpsc_train.reporting.observer import Observer
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint
from cpsc_train.training.checkpoint import fitting
from cpsc_train.training.config import RunConfig, with_root
from cpsc_train.training.distributed import explained, joined
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.loop import Trainer
from cpsc_train.training.results import (
    clean_predictions,
    complete,
    evaluation,
    fitted_variants,
    prediction_state,
    thresholds_of,
)
from cpsc_train.training.selection import Selection
from cpsc_train.training.settled import settled
from cpsc_train.training.setup import Setup

Folder = str | os.PathLike[str]
"""Path of a run folder, or a `RunFolder`."""


def train(config: RunConfig, folder: Folder, observer: Observer | None = None) -> dict[str, Any]:
    """Train a model, select the best epoch, evaluate it, and write all files of the run.

    Under a launcher such as torchrun, every process calls this, and the first one writes, into its `folder`.

    Parameters
    ----------
    config
        Configuration of the run.
    folder
        Run folder, which must not exist. It is created once data and model have been built without an error.
    observer
        Receives progress events. Default: none.

    Returns
    -------
    dict
        Content of ``results.json``.

    Raises
    ------
    TypeError
        If `config` is not a configuration.
    UserError
        For an error that the user can fix, such as bad data, an existing folder, or a loss that is not finite.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config must be a RunConfig, such as cpsc_train.recipe('table'), got {type(config).__name__}")
    return _run(settled(config), RunFolder(folder), observer or Observer(), resumed=False)


def resume(folder: Folder, observer: Observer | None = None, *, root: str | None = None) -> dict[str, Any]:
    """Resume a run that was killed or interrupted, from its folder alone.

    On a CPU, with the same number of threads and processes, the results are those of an uninterrupted run, to the last
    digit. The number of processes may differ: results then differ by rounding, and by other draws of dropout.

    Parameters
    ----------
    folder
        Run folder.
    observer
        Receives progress events. Default: none.
    root
        Folder of the data set, if it has moved since.

    Returns
    -------
    dict
        Content of ``results.json``.

    Raises
    ------
    UserError
        If this is not a run folder, the run is done, its newest checkpoint cannot be read, or `root` lacks samples of
        the run.
    """
    run_folder = RunFolder(folder)
    config = _recorded(run_folder, root)
    if run_folder.read_results() is not None:
        raise UserError(f"{run_folder.path}: the run is done; there is nothing to resume")
    return _run(config, run_folder, observer or Observer(), resumed=True, root=root)


def evaluate(
    folder: Folder,
    *,
    noise: Sequence[Noise] | None = None,
    protocols: Sequence[str] = (),
    inference: Sequence[str] | None = None,
    root: str | None = None,
) -> dict[str, Any]:
    """Evaluate the best epoch of a run, from its folder alone.

    Parameters
    ----------
    folder
        Run folder.
    noise
        Noise conditions that replace those of the run.
    protocols
        Named protocols, such as ``qmf:GS@5,10``, that replace those of the run if `noise` is given.
    inference
        Inference variants that replace those of the run, such as ``trust`` or ``read:lr=0.001``.
    root
        Folder of the data set, if it has moved since. It may hold further samples, which are not used.

    Returns
    -------
    dict
        Content of ``results.json`` except what only training knows (``selected``, ``seconds``).

    Raises
    ------
    UserError
        If this is not a run folder, its checkpoint or data cannot be read, or `root` lacks samples of the run.
    """
    run_folder = RunFolder(folder)
    with opened(run_folder, noise=noise, protocols=protocols, inference=inference, root=root) as (setup, evaluator):
        variants = fitted_variants(setup.config.inference, evaluator)
        thresholds = thresholds_of(evaluator, variants)
        return evaluation(evaluator, variants, thresholds)


@contextmanager
def opened(
    folder: Folder,
    *,
    noise: Sequence[Noise] | None = None,
    protocols: Sequence[str] = (),
    inference: Sequence[str] | None = None,
    root: str | None = None,
) -> Iterator[tuple[Setup, Evaluator]]:
    """Load the data and the best model of a run; the arguments are those of `evaluate`."""
    run_folder = RunFolder(folder)
    config = _recorded(run_folder, root)
    if noise is not None:
        config = replace(config, noise=tuple(noise), protocols=tuple(protocols))
    if inference is not None:
        config = replace(config, inference=tuple(inference))
    with joined(config.compute.device), config.compute.applied():
        setup = Setup.build(config, _recorded_splits(run_folder, root))
        yield setup, _load_best(run_folder, setup)


def _recorded(folder: RunFolder, root: str | None) -> RunConfig:
    """Return the configuration of a run, with its data at `root` if given."""
    config = RunConfig.from_plain(folder.read_config())
    return config if root is None else with_root(config, root)


def _recorded_splits(folder: RunFolder, root: str | None) -> Callable[[Dataset], Splits]:
    """Return the function that reads the splits of a run; its error names the data at `root`, if given."""

    def read(dataset: Dataset) -> Splits:
        try:
            return folder.read_splits(dataset)
        except DataError:  # of the file of splits
            raise
        except UserError as error:
            raise UserError(f"--root {root}: is not the data of the run: {error}") from None

    return folder.read_splits if root is None else read


def _run(
    config: RunConfig, folder: RunFolder, observer: Observer, *, resumed: bool, root: str | None = None
) -> dict[str, Any]:
    began = time.perf_counter()
    with ExitStack() as stack:
        process = stack.enter_context(joined(config.compute.device))
        folder = RunFolder(process.gather_objects(str(folder.path))[0])  # names with the time may differ
        stack.enter_context(config.compute.applied())
        stack.enter_context(explained(config))
        setup = Setup.build(config, _recorded_splits(folder, root) if resumed else None)
        trainer = Trainer(setup)
        selection = Selection(trainer, folder, began)
        if process.first:
            if not resumed:
                folder.create(config.to_plain(), setup.splits, setup.dataset)
            stack.enter_context(folder.locked())
        if resumed:
            selection.restore()
        process.wait()
        if process.first:
            stack.enter_context(folder.recording())
        else:
            observer = Observer()
        stack.enter_context(explained(config))  # before the status is recorded
        if setup.dataset.dropped:
            observer.dropped(setup.dataset.dropped)
        if selection.saved_by not in {None, process.world}:
            observer.redistributed(selection.saved_by, process.world)
        observer.start(setup.describe(), epochs=config.epochs, path=folder.path, done=trainer.epoch)
        selection.fit(observer)
        results = _finish(setup, folder, selection)
        process.wait()
    observer.finish(results)
    return results


def _finish(setup: Setup, folder: RunFolder, selection: Selection) -> dict[str, Any]:
    evaluator = _load_best(folder, setup)
    variants = fitted_variants(setup.config.inference, evaluator)
    thresholds = thresholds_of(evaluator, variants)
    results = evaluation(evaluator, variants, thresholds)
    prediction = prediction_state(evaluator, variants, thresholds)
    results |= {"selected": selection.selected, "seconds": selection.seconds}
    predictions = clean_predictions(evaluator)
    weights = {head: w.cpu().numpy() for head, w in setup.objective.method.row_weights().items()}
    if weights:
        results["left_out"] = int(np.all([w == 0 for w in weights.values()], axis=0).sum())
    if setup.process.first:
        if weights:
            folder.write_row_weights(setup.dataset, setup.splits.train, weights)
        folder.write_predictions(predictions)
        complete(folder.checkpoint, variants, prediction)
        folder.write_results(results)
    return results


def _load_best(folder: RunFolder, setup: Setup) -> Evaluator:
    state = checkpoint.load_best(folder.checkpoint, setup.device)
    model, method = setup.objective.model, setup.objective.method
    with fitting():
        if state["qhat"] is not None and (missing := {*setup.dataset.modalities, FUSED} - set(state["qhat"])):
            raise ValueError(f"it has no quantile of {min(missing)}")
        model.load_state_dict(state["model"])
        method.load_state_dict(state["method"])
    return Evaluator(setup, setup.objective, state["qhat"], state.get("inference", {}))
