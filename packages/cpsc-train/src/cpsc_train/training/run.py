"""A run from beginning to end: train, select on validation, look at test once; go on after a kill; measure again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc_train import interrupts
from cpsc_train.data import Noise
from cpsc_train.errors import JobError, UserError, out_of_memory, reason
from cpsc_train.evaluation import measure
from cpsc_train.models import FUSED, GateConfig
from cpsc_train.reporting.observer import Observer
from cpsc_train.runs.folder import RunFolder
from cpsc_train.training import checkpoint, distributed
from cpsc_train.training.checkpoint import Checkpoints
from cpsc_train.training.compute import peak_memory
from cpsc_train.training.config import RunConfig
from cpsc_train.training.distributed import joined
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.gate import build_gate, fit_gate, save_gate
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup

SHOWN = 2000
"""Most test rows whose features are kept for pictures."""


def train(config: RunConfig, folder: RunFolder | Path | str, observer: Observer | None = None) -> dict[str, Any]:
    """Train, select, evaluate; everything the run says lies in `folder`.

    Started by a launcher such as torchrun, every process calls this, and the first one writes.

    Parameters
    ----------
    config
        The run.
    folder
        A run folder that is not there yet; it is made once data and model have been built without an error.
    observer
        Receives progress events. Default: none.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    UserError
        For a mistake the user can mend, such as bad data, an existing folder, or a loss that is not finite.
    """
    return _run(config, _folder(folder), observer or Observer(), going_on=False)


def resume(folder: RunFolder | Path | str, observer: Observer | None = None) -> dict[str, Any]:
    """Go on with a run that was killed or interrupted, from its folder alone.

    On a CPU, with the same number of threads and processes, the outcome is that of a run that was never stopped, to
    the last digit.

    Parameters
    ----------
    folder
        The folder of the run.
    observer
        Receives progress events. Default: none.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    UserError
        If this is no run folder, the run is done, or its newest checkpoint cannot be read.
    """
    run_folder = _folder(folder)
    config = RunConfig.from_plain(run_folder.read_config())
    if run_folder.read_results() is not None:
        raise UserError(f"{run_folder.path}: the run is done; there is nothing to resume")
    return _run(config, run_folder, observer or Observer(), going_on=True)


def evaluate(
    folder: RunFolder | Path | str,
    *,
    noise: Sequence[Noise] | None = None,
    protocols: Sequence[str] = (),
    gate: GateConfig | None = None,
) -> dict[str, Any]:
    """Measure the checkpoint of a run; needs its folder only.

    Parameters
    ----------
    folder
        A run folder.
    noise
        Noise conditions in place of those of the run.
    protocols
        With `noise`: named protocols, such as ``qmf:GS@5,10``, in place of those of the run.
    gate
        A conformal gate in place of that of the run; it is fitted to the training and calibration rows of the run.

    Returns
    -------
    dict
        ``results.json`` without what only training knows (``selected``, ``seconds``).
    """
    with opened(folder, noise=noise, protocols=protocols, gate=gate) as (setup, evaluator):
        return _measured(setup, evaluator)


@contextmanager
def opened(
    folder: RunFolder | Path | str,
    *,
    noise: Sequence[Noise] | None = None,
    protocols: Sequence[str] = (),
    gate: GateConfig | None = None,
) -> Iterator[tuple[Setup, Evaluator]]:
    """Give the kept model of a run, and the data it is for; arguments are those of `evaluate`."""
    run_folder = _folder(folder)
    config = RunConfig.from_plain(run_folder.read_config())
    if noise is not None:
        config = replace(config, noise=tuple(noise), protocols=tuple(protocols))
    refit = gate is not None and gate != config.gate
    if gate is not None:
        config = replace(config, gate=gate)
    with joined(config.compute.device), config.compute.applied():
        setup = Setup.build(config, run_folder.read_splits)
        yield setup, _load(run_folder, setup, refit=refit)


def _run(config: RunConfig, folder: RunFolder, observer: Observer, *, going_on: bool) -> dict[str, Any]:
    began = time.perf_counter()
    with ExitStack() as stack:
        process = stack.enter_context(joined(config.compute.device))
        stack.enter_context(config.compute.applied())
        stack.enter_context(_explained(config))
        setup = Setup.build(config, folder.read_splits if going_on else None)
        observer = observer if process.first else Observer()
        trainer = Trainer(setup)
        progress = _Progress(trainer, folder)
        if process.first:
            if not going_on:
                folder.create(config.to_plain(), setup.splits, setup.dataset)
            stack.enter_context(folder.held())
        if going_on:
            progress.restore()
        process.wait()
        with folder.recording() if process.first else nullcontext(), _explained(config):
            if setup.dataset.dropped:
                observer.dropped(setup.dataset.dropped)
            observer.start(setup.describe(), epochs=config.epochs, path=folder.path, done=trainer.epoch)
            progress.fit(observer)
            evaluator = _load(folder, setup)
            if process.first and setup.objective.model.gate is not None:
                save_gate(folder.checkpoint, setup.objective.model.gate)
            results = _measured(setup, evaluator)
            results |= {"selected": progress.selected, "seconds": progress.seconds + time.perf_counter() - began}
            kept = _predictions(setup, evaluator)
            weights = {head: w.cpu().numpy() for head, w in setup.objective.method.row_weights().items()}
            if weights:
                results["left_out"] = int((weights[FUSED] == 0).sum())
            if process.first:
                if weights:
                    folder.write_row_weights(setup.dataset, setup.splits.train, weights)
                folder.write_predictions(kept)
                folder.write_results(results)
            process.wait()
        observer.finish(results)
        return results


class _Progress:
    """How far a run is: which epoch is the best so far, and when its state is saved."""

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.selected: dict[str, Any] = {}
        self.seconds = 0.0
        self._trainer = trainer
        self._folder = folder
        self._config = trainer.config
        self._process = trainer.setup.process
        self._best: tuple[float, float] | None = None
        self._checkpoints = Checkpoints(folder.checkpoints, trainer.config.checkpoints.keep)
        self._began = time.perf_counter()

    def fit(self, observer: Observer) -> None:
        """Train the epochs that are left; keep the one that is best on the validation rows.

        The best has the highest accuracy, and of several the highest likelihood.
        """
        trainer = self._trainer
        try:
            while trainer.epoch < self._config.epochs and not self._out_of_patience():
                self._epoch(observer)
        except KeyboardInterrupt:
            # Not among several processes, where it needs the others, who may be gone.
            if self._process.world == 1 and not self._folder.checkpoint.exists():
                checkpoint.save(self._folder.checkpoint, trainer.selected_state())
            raise

    def restore(self) -> None:
        """Go on from the newest checkpoint, or from the beginning where there is none yet."""
        cpu = torch.device("cpu")
        state = self._checkpoints.newest(cpu)
        if state is not None:
            self._trainer.load_state_dict(state)
            try:
                self._best = None if state["best"] is None else (float(state["best"][0]), float(state["best"][1]))
                self.selected, self.seconds = dict(state["selected"]), float(state["seconds"])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise UserError(
                    f"the checkpoint does not say how far the run was ({reason(error)}): remove it to go on from the "
                    "one before it"
                ) from None
        if self._folder.checkpoint.exists():  # may be of a later epoch, and what it holds is what is selected
            kept = checkpoint.load(self._folder.checkpoint, cpu)
            if kept.get("best") is not None:
                self._best, self.selected = (kept["best"][0], kept["best"][1]), kept["selected"]
        if self._process.first:
            self._folder.forget_after(self._trainer.epoch)

    def _epoch(self, observer: Observer) -> None:
        trainer, began, cpu = self._trainer, time.perf_counter(), time.process_time()
        selectable = not trainer.warming_up
        record = trainer.train_epoch(observer, after_step=self._after_step)
        validating = time.perf_counter()
        record |= {"validation": trainer.validate()}
        now = time.perf_counter()
        record["time"] |= {"validation": now - validating}
        record = {"epoch": trainer.epoch} | record | {"seconds": now - began}
        record["cost"] = {"cpu_seconds": time.process_time() - cpu, "peak_mib": peak_memory(trainer.setup.device)}
        accuracy = record["validation"]["accuracy"]
        key = (accuracy[FUSED], -record["validation"]["nll"][FUSED])
        if selectable and (self._best is None or key > self._best):
            self._best, self.selected = key, {"epoch": trainer.epoch, "validation_accuracy": accuracy}
            kept = trainer.selected_state() | {"best": self._best, "selected": self.selected}
            if self._process.first:
                checkpoint.save(self._folder.checkpoint, kept)
        if self._process.first:
            self._folder.log(record)
        if trainer.epoch % self._config.checkpoints.every_epochs == 0:
            self._save()
        observer.epoch(record)

    def _after_step(self) -> None:
        interrupts.look()
        every = self._config.checkpoints.every_steps
        if every is not None and self._trainer.steps % every == 0:
            self._save()

    def _save(self) -> None:
        trainer = self._trainer
        state = trainer.state_dict() | {
            "best": self._best,
            "selected": self.selected,
            "seconds": self.seconds + time.perf_counter() - self._began,
        }
        if self._process.first:
            self._checkpoints.save(trainer.steps, state)

    def _out_of_patience(self) -> bool:
        if self._config.patience is None or not self.selected:
            return False
        return self._trainer.epoch - int(self.selected["epoch"]) >= self._config.patience


def _load(folder: RunFolder, setup: Setup, *, refit: bool = False) -> Evaluator:
    """Load the selected parameters into the model, with its gate; fit the gate if `refit` or if none was saved.

    Raises
    ------
    UserError
        If they do not fit the model of the configuration.
    """
    state = checkpoint.load_kept(folder.checkpoint, setup.device)
    model, method = setup.objective.model, setup.objective.method
    heads = {*setup.dataset.modalities, FUSED}
    if state["qhat"] is not None and not heads <= set(state["qhat"]):
        raise UserError(
            f"the checkpoint does not fit the configuration: it has no quantile of {min(heads - set(state['qhat']))}"
        )
    try:
        model.load_state_dict(state["model"])
        method.load_state_dict(state["method"])
        gate = build_gate(setup, None if refit else state.get("gate"))
        evaluator = Evaluator(setup, setup.objective, state["qhat"])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        told = (str(error) or type(error).__name__).splitlines()[-1].strip()
        raise UserError(f"the checkpoint does not fit the configuration: {told}") from None
    if gate is not None and not gate.fitted:
        fit_gate(gate, evaluator)
    model.gate = None if gate is None else gate.to(setup.device)
    return evaluator


def _absent(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return what may be missing: each modality and, where there are three, each pair of them."""
    sizes = (1, 2) if len(modalities) == 3 else (1,)
    return [absent for size in sizes if size < len(modalities) for absent in combinations(modalities, size)]


def _measured(setup: Setup, evaluator: Evaluator) -> dict[str, Any]:
    config = setup.config
    missing = _absent(tuple(setup.dataset.modalities)) if config.missing else []
    ids = [setup.dataset.ids[row] for row in setup.splits.test]
    corrupted = {
        one.name: {noise.modality: float(noise.hits(ids).mean()) for noise in one.parts} for one in setup.conditions
    }
    measured = measure(evaluator.collect, alpha=config.conformal.alpha, noise=setup.conditions, missing=missing)
    return setup.describe() | measured | {"corrupted": corrupted}


def _predictions(setup: Setup, evaluator: Evaluator) -> dict[str, np.ndarray[Any, Any]]:
    seen, features = evaluator.collect_with_features("test")
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "ids": np.array([setup.dataset.ids[row] for row in setup.splits.test]),
        "labels": seen.labels,
        "classes": np.array(setup.dataset.classes),
    }
    arrays |= {f"probabilities/{head}": p.astype(np.float32) for head, p in seen.probabilities.items()}
    return arrays | {f"features/{m}": h[:SHOWN] for m, h in features.items()}


@contextmanager
def _explained(config: RunConfig) -> Iterator[None]:
    """Say what to do where memory runs out, another process dies, or a batch is a single row."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _smaller_batch(config, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch normalisation cannot take a single row, and batch_size = {config.batch_size} gives a process one: "
            "raise batch_size"
        ) from None
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker" in text and "Terminated" in text:  # the whole group of processes was told to end
            raise interrupts.Terminated from None
        if "DataLoader worker" in text:
            raise UserError(
                f"a process that reads samples died ({text.splitlines()[0]}): if memory ran out, lower compute.workers"
            ) from None
        if distributed.lost_another(error):
            raise JobError(
                f"another process of the job is gone, or did not answer ({reason(error)}): see what it said; cpsc "
                "train --resume goes on with as many processes"
            ) from None
        if out_of_memory(error):
            raise _smaller_batch(config, error) from None
        raise


def _smaller_batch(config: RunConfig, error: BaseException) -> UserError:
    half, accumulate = max(1, config.batch_size // 2), 2 * config.optimizer.accumulate
    told = next(iter(str(error).splitlines()), "")[:120]
    return UserError(
        f"out of memory with batch_size = {config.batch_size} ({told}): try --set batch_size={half} --set "
        f"optimizer.accumulate={accumulate}, which makes the same step"
    )


def _folder(folder: RunFolder | Path | str) -> RunFolder:
    return folder if isinstance(folder, RunFolder) else RunFolder(folder)
