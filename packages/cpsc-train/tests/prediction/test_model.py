"""Predictions of a run for arrays: the same as those of its evaluation."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import cpsc_train
from cpsc_train.errors import UserError
from cpsc_train.training.objective import Predictor


@pytest.fixture(scope="module")
def model(digits):
    return cpsc_train.load(digits.run)


def figures(batch, labels):
    """Accuracy, coverage and mean set size."""
    found = batch.probabilities.argmax(1) == labels
    return found.mean(), batch.sets[np.arange(len(labels)), labels].mean(), batch.sets.sum(1).mean()


def evaluated(figures):
    return figures["accuracy"]["fused"], *(figures["coverage"]["fused"][name] for name in ("coverage", "mean_size"))


def test_the_plain_model_predicts_what_the_run_saved(digits):
    plain = cpsc_train.load(digits.run, inference="plain")
    batch = plain.predict(digits.given())
    with np.load(digits.run / "predictions.npz") as saved:
        np.testing.assert_array_equal(batch.probabilities.astype(np.float32), saved["probabilities/fused"])
    assert plain.inference == "plain"
    assert batch.trust == {}


@pytest.mark.parametrize("inference", ["plain", "trust"])
@pytest.mark.parametrize("without", [(), ("pix",), ("fou",)])
def test_figures_are_those_of_the_evaluation(digits, inference, without):
    results = cpsc_train.evaluate(digits.run)
    results = results if inference == "plain" else results["inference"]["trust"]
    condition = f"without-{without[0]}" if without else "clean"
    model = cpsc_train.load(digits.run, inference=inference)
    batch = model.predict(digits.given(*{"pix", "fou"} - set(without)))
    assert figures(batch, digits.labels) == pytest.approx(evaluated(results["test"][condition]), abs=1e-12)
    assert all(prediction.missing == without for prediction in batch)


def test_unusual_rows_have_the_trust_and_the_sets_of_the_evaluation(digits, model, tmp_path):
    """The test rows of the file are replaced after training, so that the evaluation reads the unusual ones."""
    run, file = tmp_path / "run", tmp_path / "digits.npz"
    shutil.copytree(digits.run, run)
    arrays = {name: array.copy() for name, array in digits.arrays.items()}
    rng = np.random.default_rng(0)
    hit = digits.rows[::2]
    arrays["fou"][hit] += rng.normal(scale=0.3, size=arrays["fou"][hit].shape).astype(np.float32)
    np.savez(file, **arrays)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(digits.file), str(file)))
    of_trust = cpsc_train.evaluate(run)["inference"]["trust"]["test"]["clean"]
    batch = model.predict({m: arrays[m][digits.rows] for m in ("pix", "fou")})
    assert figures(batch, digits.labels) == pytest.approx(evaluated(of_trust), abs=1e-12)
    assert batch.trust["fou"].mean() == pytest.approx(of_trust["trust"]["fou"]["mean"], abs=1e-6)
    assert batch.trust["fou"][::2].mean() < 0.9 * batch.trust["fou"][1::2].mean()
    assert of_trust["coverage"]["fused"]["rule"] == "typicality"


def test_samples_that_lack_a_modality_are_predicted_as_without_it(digits, model):
    given = digits.given()
    pix, fou = (list(given[m][:4]) for m in ("pix", "fou"))
    mixed = model.predict({"pix": [pix[0], None, pix[2], pix[3]], "fou": [fou[0], fou[1], None, float("nan")]})
    alone = {m: model.predict({m: given[m][:4]}) for m in given}
    both = model.predict({m: given[m][:4] for m in given})
    for row, expected in enumerate([both[0], alone["fou"][1], alone["pix"][2], alone["pix"][3]]):
        assert mixed[row].missing == expected.missing
        assert mixed[row].prediction_set == expected.prediction_set
        np.testing.assert_allclose(
            list(mixed[row].probabilities.values()), list(expected.probabilities.values()), atol=1e-6
        )
    assert mixed[1].trust.keys() == {"fou"}
    assert np.isnan(mixed.trust["pix"][1])


def test_results_have_names(digits, model):
    assert repr(model).startswith("<Model of pix: image of 1×16×15")
    batch = model.predict(digits.given(), batch_size=7)
    first = batch[0]
    assert len(batch) == len(digits.rows)
    assert list(first.probabilities) == list(model.classes) == [str(k) for k in range(10)]
    assert first.label == max(first.probabilities, key=first.probabilities.get) == batch.labels[0]
    assert set(first.prediction_set) == {model.classes[k] for k in np.flatnonzero(batch.sets[0])}
    assert [one.label for one in batch[:3]] == batch.labels[:3]
    assert (model.alpha, model.inference) == (0.1, "trust")
    np.testing.assert_allclose(batch.probabilities, model.predict(digits.given()).probabilities, atol=1e-6)


def test_tensors_lists_and_single_samples(digits, model):
    given = digits.given()
    expected = model.predict({m: x[:2] for m, x in given.items()}).probabilities
    tensors = model.predict({m: torch.from_numpy(x[:2]) for m, x in given.items()}).probabilities
    lists = model.predict({"pix": given["pix"][:2].tolist(), "fou": list(given["fou"][:2])}).probabilities
    np.testing.assert_array_equal(tensors, expected)
    np.testing.assert_array_equal(lists, expected)
    assert len(model.predict({"pix": []})) == 0


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"pix": [[0.0] * 7]}, r"sample 0: pix: must be numbers of shape \(1, 16, 15\), got shape \(7,\)"),
        ({"pix": [None], "fou": [None]}, "sample 0: the sample has no modality of pix, fou"),
        ({"fuo": [[0.0] * 76]}, "unknown modality 'fuo'; did you mean 'fou'"),
        ([{"pix": [0.0] * 240}], "samples must map each modality to its entries, got list"),
        ({"pix": None}, "samples must have at least one modality of pix, fou"),
        ({"pix": np.zeros((2, 240)), "fou": np.zeros((3, 76))}, "got pix 2, fou 3"),
        ({"fou": [[float("inf")] * 76]}, "fou: must hold finite numbers only"),
        ({"fou": ["a.wav"]}, r"sample 0: fou: a.wav: must be numbers of shape \(76,\), got a file"),
        ({"fou": [object()]}, "sample 0: fou: must be numbers of shape"),
    ],
)
def test_bad_samples_are_named(model, samples, message):
    with pytest.raises(UserError, match=message):
        model.predict(samples)


def test_a_run_needs_neither_its_data_nor_its_splits(digits, model, tmp_path):
    run = tmp_path / "moved"
    run.mkdir()
    for name in ("config.toml", "checkpoint.pt", "results.json"):
        shutil.copy(digits.run / name, run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(digits.file), "/nowhere/digits.npz"))
    given = digits.given()
    np.testing.assert_array_equal(cpsc_train.load(run).predict(given).sets, model.predict(given).sets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_predicts_as_the_processor_does(digits, model):
    batch = cpsc_train.load(digits.run, device="cuda").predict(digits.given())
    np.testing.assert_allclose(batch.probabilities, model.predict(digits.given()).probabilities, atol=1e-4)


def test_threads_take_turns(digits, model, monkeypatch):
    active, most, predict = [], [], Predictor.predict

    def slow(self, *arguments):
        active.append(None)
        time.sleep(0.01)
        most.append(len(active))
        active.pop()
        return predict(self, *arguments)

    monkeypatch.setattr(Predictor, "predict", slow)
    samples = [model.read({m: x[row] for m, x in digits.given().items()}) for row in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda sample: model.predict_inputs([sample]), samples))
    assert most == [1] * 16


def test_loading_does_not_advance_the_random_state(digits):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    cpsc_train.load(digits.run)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference": "read"}, "unknown inference variant of the run 'read'"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
    ],
)
def test_bad_options_are_named(digits, options, message):
    with pytest.raises(UserError, match=message):
        cpsc_train.load(digits.run, **options)


def test_what_is_not_a_finished_run_is_refused(digits, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        cpsc_train.load(tmp_path / "none")
    shutil.copytree(digits.run, tmp_path / "run")
    Path(tmp_path / "run/results.json").unlink()
    with pytest.raises(UserError, match="the run is not finished: continue it with cpsc train --resume"):
        cpsc_train.load(tmp_path / "run")
