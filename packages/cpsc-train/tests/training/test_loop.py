import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpsc_train.data.families.arrays import Arrays
from cpsc_train.errors import UserError
from cpsc_train.models import FUSED
from cpsc_train.recipes import recipe
from cpsc_train.reporting import Observer
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig, evaluate, train
from cpsc_train.training.calibration_share import calibration_share
from cpsc_train.training.loop import Trainer
from cpsc_train.training.objective import evaluating
from cpsc_train.training.setup import Setup


def changed(config, **settings):
    """Return `config` with some values replaced; `method__top_k` reaches into `method`."""
    table = config.to_plain()
    for key, value in settings.items():
        place = table
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return RunConfig.from_plain(table)


def untimed(folder):
    results = json.loads((folder / "results.json").read_text())
    assert results.pop("seconds") > 0
    return results


def test_the_same_seed_gives_the_same_results_to_the_last_digit(small_config, tmp_path):
    for name in "ab":
        train(small_config, RunFolder(tmp_path / name))
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")
    a, b = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab")
    timeless = {"seconds": 0, "time": 0, "cost": 0}
    assert [json.loads(x) | timeless for x in a] == [json.loads(x) | timeless for x in b]
    train(replace(small_config, seed=1), RunFolder(tmp_path / "c"))
    assert untimed(tmp_path / "a") != untimed(tmp_path / "c")
    assert (tmp_path / "a/splits.npz").read_bytes() == (tmp_path / "c/splits.npz").read_bytes()


def test_results_do_not_depend_on_what_ran_before(small_config, tmp_path):
    train(small_config, RunFolder(tmp_path / "a"))
    torch.rand(7)
    np.random.default_rng().random()
    torch.manual_seed(99)
    train(small_config, RunFolder(tmp_path / "b"))
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")


def test_the_order_of_a_step(small_config, monkeypatch):
    """Warm-up without a quantile; then all of D_cal is scored before the first step and after every one."""
    events = []
    trainer = Trainer(Setup.build(changed(small_config, conformal__refresh="exact")))
    method, refresh = trainer.objective.method, trainer.refresh
    losses, rescore, step = method.losses, refresh._rescore, trainer.stepper.optimizer.step

    def recorded_losses(model, features, labels, qhat, present):
        events.append("loss without" if qhat is None else "loss with")
        return losses(model, features, labels, qhat, present)

    monkeypatch.setattr(method, "losses", recorded_losses)
    monkeypatch.setattr(refresh, "_rescore", lambda *a: (events.append("refresh"), rescore(*a)))
    monkeypatch.setattr(trainer.stepper.optimizer, "step", lambda: (events.append("step"), step()))
    steps = -(-len(trainer.setup.splits.train) // small_config.batch_size)
    for _ in range(3):
        trainer.train_epoch(Observer())
    warm = ["loss without", "step"] * (2 * steps)
    assert events == [*warm, "refresh", *["loss with", "step", "refresh"] * steps]
    assert set(trainer.refresh.qhat) == {"pix", "fou", FUSED}


def test_scoring_the_calibration_set_changes_nothing_else(small_config):
    """Batch-norm statistics, dropout and the random state are those of training alone."""
    config = changed(small_config, encoders__fou__dropout=0.5, conformal__refresh="exact")
    trainer = Trainer(Setup.build(config))
    model = trainer.objective.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    trainer.refresh.start_epoch()
    first = dict(trainer.refresh.qhat)
    trainer.refresh.after_step()
    trainer.validate()
    assert first == trainer.refresh.qhat  # with dropout on, two looks would differ
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("inference", ["features", "mean", "collaborative"])
def test_the_in_loop_quantile_is_that_of_the_features_as_they_are(small_config, inference):
    config = changed(small_config, method__inference=inference, conformal__refresh="exact")
    trainer = Trainer(Setup.build(config))
    for _ in range(3):
        trainer.train_epoch(Observer())
    labels = trainer.setup.dataset.labels[trainer.setup.splits.calibration]
    trainer.refresh.after_step()
    with evaluating(trainer.objective):
        logits = trainer.objective.model(next(calibration_share(trainer.setup).read(0, len(labels))).inputs)
    assert set(logits) == set(trainer.refresh.qhat)
    for head, z in logits.items():
        scores = np.sort(1 - z.softmax(-1).numpy()[np.arange(len(labels)), labels])
        rank = -(-(len(scores) + 1) * 9 // 10)
        assert float(trainer.refresh.qhat[head]) == pytest.approx(scores[rank - 1], abs=1e-6)


def test_the_best_validation_epoch_is_kept_and_never_a_warm_up_one(small_config, tmp_path):
    results = train(changed(small_config, epochs=6), RunFolder(tmp_path / "run"))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["warm-up"] * 2 + ["self-calibration"] * 4
    keys = [(line["validation"]["accuracy"][FUSED], -line["validation"]["nll"][FUSED]) for line in lines]
    best = max(range(2, 6), key=lambda i: keys[i])
    assert results["selected"]["epoch"] == best + 1
    assert results["selected"]["validation_accuracy"] == lines[best]["validation"]["accuracy"]
    assert results["validation"]["clean"]["accuracy"] == lines[best]["validation"]["accuracy"]


def test_test_rows_are_not_read_before_training_is_over(small_config, tmp_path, monkeypatch):
    read, epochs = [], []
    original = Arrays.read

    def recorded(self, modality, rows):
        read.append((len(epochs), frozenset(rows.tolist())))
        return original(self, modality, rows)

    class Counting(Observer):
        def epoch(self, record):
            epochs.append(record)

    monkeypatch.setattr(Arrays, "read", recorded)
    folder = RunFolder(tmp_path / "run")
    train(small_config, folder, Counting())
    splits = folder.read_splits(small_config.data.open())
    test = frozenset(splits.test.tolist())
    assert min(when for when, rows in read if rows & test) == small_config.epochs
    everything = [splits.train, splits.calibration, splits.validation, splits.test]
    assert sorted(np.concatenate(everything)) == list(range(200))
    # and the calibration rows are never trained on: the shuffled batches hold training rows alone
    setup = Setup.build(small_config)
    trained = {row for batch in setup.training_batches(setup.order()) for row in batch.ids}
    assert trained == {f"{row:04d}" for row in splits.train}


@pytest.mark.parametrize("policy", ["rolling", "interval:3", "epoch"])
def test_every_policy_runs(small_config, policy):
    trainer = Trainer(Setup.build(changed(small_config, conformal__refresh=policy)))
    for _ in range(3):
        record = trainer.train_epoch(Observer())
    assert all(0 <= value <= 1 for value in record["in_loop_quantile"].values())
    assert record["staleness"] == {"rolling": 2, "interval:3": 2, "epoch": 2}[policy]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "adagrad"])
def test_every_optimizer_learns(small_config, kind):
    lr = {"sgd": 0.05, "adagrad": 0.02}.get(kind, 0.002)
    trainer = Trainer(Setup.build(changed(small_config, optimizer__kind=kind, optimizer__lr=lr)))
    losses = [trainer.train_epoch(Observer())["loss"]["ce_fused"] for _ in range(2)]
    assert losses[1] < 0.95 * losses[0]


@pytest.mark.parametrize("method", ["joint", "joint-unimodal"])
def test_a_baseline_has_no_predictor_in_the_loop_and_the_same_report(small_config, tmp_path, method):
    config = changed(small_config, method={"name": method}, epochs=2)
    results = train(config, RunFolder(tmp_path / "run"))
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert line["in_loop_quantile"] == {}
    assert line["phase"] == "training"
    assert set(results["coverage"]) == {"calibration", "validation", "test"}
    assert results["coverage"]["calibration"][FUSED]["coverage"] >= 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2}, "epochs must be larger than the 2 warm-up epochs of cpsc, got 2"),
        ({"conformal__alpha": 0.01}, r"40 calibration samples are too few for conformal\.alpha = 0\.01.*is 0\.02439"),
        ({"compute__device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ({"data__file": "absent.npz"}, "absent.npz: no such file"),
    ],
)
def test_an_impossible_run_is_refused_before_anything_is_written(small_config, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(changed(small_config, **settings), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_name_of_a_recipe_is_no_configuration(tmp_path):
    with pytest.raises(TypeError, match=r"config must be a RunConfig, such as cpsc_train\.recipe\('table'\), got str"):
        train("table", tmp_path / "run")


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run/config.toml"
    config.write_text(config.read_text().replace("feature_dim = 64", "feature_dim = 8"))
    with pytest.raises(UserError, match="the checkpoint does not fit the configuration"):
        evaluate(tmp_path / "run")


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_other_readings_of_the_method_run(small_config, tmp_path, mode):
    table = recipe("handwritten", mode=mode, epochs=4).to_plain()
    table["data"]["file"] = small_config.data.file
    table["method"]["warmup"] = 2
    table["splits"]["calibration"] = 16 if mode == "released" else 0.2
    results = train(RunConfig.from_plain(table), tmp_path / "run")
    assert results["test"]["clean"]["accuracy"][FUSED] > 0.25  # chance is .1; the letter of the paper learns slowly
    assert evaluate(tmp_path / "run").items() <= results.items()


def test_frozen_copies_are_the_heads_of_the_last_refresh(small_config):
    method = {"name": "cpsc-literal", "warmup": 2, "frozen_heads": True}
    config = changed(small_config, conformal__refresh="epoch", method=method)
    trainer = Trainer(Setup.build(config))
    for _ in range(3):
        trainer.train_epoch(Observer())
    model, method = trainer.objective.model, trainer.objective.method
    assert not torch.equal(method.frozen_heads["pix"].weight, model.heads["pix"].weight)
    trainer.refresh.start_epoch()
    assert torch.equal(method.frozen_heads["pix"].weight, model.heads["pix"].weight)


def test_accumulated_batches_make_the_step_of_one_large_batch(small_config):
    """Without batch normalisation, whose statistics are those of each batch."""
    table = small_config.to_plain()
    table["data"]["modalities"] = ["fou", "kar"]
    table["encoders"] = {"fou": {"name": "mlp"}, "kar": {"name": "mlp"}}
    table["noise"], table["optimizer"] = [], {"kind": "sgd", "lr": 0.1}
    runs = []
    for batch, accumulate in ((60, 1), (20, 3)):
        config = changed(RunConfig.from_plain(table), batch_size=batch, optimizer__accumulate=accumulate)
        trainer = Trainer(Setup.build(config))
        record = trainer.train_epoch(Observer())
        runs.append((trainer.objective.state_dict(), record["loss"]["ce_fused"], trainer.steps))
    (one, loss, steps), (other, other_loss, other_steps) = runs
    assert steps == other_steps
    assert loss == pytest.approx(other_loss, rel=1e-5)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-5)


def test_gradients_are_clipped_together(small_config):
    trainer = Trainer(
        Setup.build(changed(small_config, optimizer={"kind": "sgd", "lr": 1.0, "momentum": 0.0, "clip_norm": 0.01}))
    )
    before = [parameter.detach().clone() for parameter in trainer.objective.parameters()]
    batches = iter(trainer.setup.training_batches(trainer.setup.order()))
    trainer._step([next(batches)], [1.0])
    moved = [after.detach() - old for after, old in zip(trainer.objective.parameters(), before, strict=True)]
    assert float(torch.cat([change.flatten() for change in moved]).norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_moving_average_is_validated_and_saved(small_config, tmp_path):
    config = changed(small_config, ema=0.5)
    trainer = Trainer(Setup.build(config))
    expected = None
    for _ in range(2):
        order = trainer.setup.order()
        assert order.steps == len(order)
        trainer.train_epoch(Observer())
    averaged = trainer.evaluator().objective.model
    assert averaged is not trainer.objective.model
    assert not torch.equal(averaged.heads["pix"].weight, trainer.objective.model.heads["pix"].weight)
    batches = iter(trainer.setup.training_batches(trainer.setup.order()))
    expected = averaged.heads["pix"].weight.clone()
    trainer._step([next(batches)], [1.0])
    expected = 0.5 * expected + 0.5 * trainer.objective.model.heads["pix"].weight
    torch.testing.assert_close(averaged.heads["pix"].weight, expected)
    results = train(config, tmp_path / "run")
    assert evaluate(tmp_path / "run").items() <= results.items()


def test_patience_ends_a_run_that_does_not_improve(small_config, tmp_path):
    config = changed(small_config, epochs=30, patience=2, optimizer__lr=1e-9)
    results = train(config, tmp_path / "run")
    assert len(RunFolder(tmp_path / "run").read_metrics()) == results["selected"]["epoch"] + 2 < 30


def test_half_precision_learns(small_config, tmp_path):
    results = train(changed(small_config, compute__precision="bf16", compute__channels_last=True), tmp_path / "run")
    full = train(small_config, tmp_path / "full")
    assert abs(results["test"]["clean"]["accuracy"][FUSED] - full["test"]["clean"]["accuracy"][FUSED]) < 0.1
    assert results["test"] != full["test"]


def test_compiled_steps_learn_the_same(small_config, tmp_path):
    if shutil.which("cc") is None and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    table = small_config.to_plain()
    table |= {"noise": [], "epochs": 2, "method": {"name": "joint"}}
    table["data"]["modalities"] = ["fou", "kar"]
    table["encoders"] = {"fou": {"name": "mlp"}, "kar": {"name": "mlp"}}
    config = RunConfig.from_plain(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own compiler
        train(changed(config, compute__compile="default"), tmp_path / "compiled")
    train(config, tmp_path / "plain")
    compiled, plain = (
        [record["loss"]["ce_fused"] for record in RunFolder(tmp_path / name).read_metrics()]
        for name in ("compiled", "plain")
    )
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_single_row_and_batch_normalisation(small_config, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 16])")

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(UserError, match="batch normalisation needs more than one row, and batch_size = 64"):
        train(small_config, tmp_path / "run")
