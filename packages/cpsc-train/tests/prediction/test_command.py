"""``cpsc predict``: rows of every format of inputs and outputs, equal to those of the run."""

import csv
import io
import json
import shutil
import sys

import numpy as np
import pytest

import cpsc_train
from cpsc_train.prediction.files import predict_files


@pytest.fixture(scope="module")
def expected(digits):
    batch = cpsc_train.load(digits.run).predict(digits.given())
    return {str(name): one for name, one in zip(digits.rows, batch, strict=True)}


def numbers(values):
    return " ".join(map(repr, values.ravel().tolist()))


def table(digits, path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "pix", "note", "fou"])
        for row in rows:
            writer.writerow([row, numbers(digits.arrays["pix"][row]), "n", numbers(digits.arrays["fou"][row])])
    return path


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(rows, expected):
    assert [row["id"] for row in rows] == list(expected)
    for row, one in zip(rows, expected.values(), strict=True):
        assert row["class"] == one.label
        assert row["set"] == list(one.prediction_set)
        assert row["error"] is None
        np.testing.assert_allclose(
            [row["probabilities"][name] for name in one.probabilities], list(one.probabilities.values()), atol=1e-6
        )
        assert row["trust"] == pytest.approx(one.trust, abs=1e-6)


def test_a_table(digits, expected, cpsc, tmp_path):
    out = tmp_path / "out.jsonl"
    outcome = cpsc("predict", digits.run, table(digits, tmp_path / "new.csv", digits.rows), "--out", out)
    assert outcome.code == 0, outcome.err
    assert f"({len(digits.rows)} samples)" in outcome.out
    check(read_rows(out), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.jsonl"]


def test_numbered_columns_and_a_missing_modality(digits, cpsc, tmp_path):
    row = digits.rows[0]
    header = ["fou_1", "fou_0", *(f"fou_{k}" for k in range(2, 76))]
    fou = digits.arrays["fou"][row].tolist()
    line = [fou[1], fou[0], *fou[2:]]
    (tmp_path / "new.tsv").write_text("\t".join(header) + "\n" + "\t".join(map(repr, line)) + "\n", encoding="utf-8")
    outcome = cpsc("predict", digits.run, tmp_path / "new.tsv")
    (found,) = [json.loads(line) for line in outcome.out.splitlines()]
    assert "note: no sample has pix: a column" in outcome.err
    alone = cpsc_train.load(digits.run).predict({"fou": digits.arrays["fou"][[row]]})[0]
    assert (found["id"], found["missing"], found["set"]) == ("0", ["pix"], list(alone.prediction_set))
    assert found["probabilities"] == pytest.approx(alone.probabilities, abs=1e-6)


def test_arrays(digits, expected, cpsc, tmp_path):
    np.savez(tmp_path / "new.npz", id=digits.rows.astype(str), **digits.given())
    assert cpsc("predict", digits.run, tmp_path / "new.npz", "--out", tmp_path / "out.jsonl").code == 0
    check(read_rows(tmp_path / "out.jsonl"), expected)


def test_arrays_with_masks(digits, cpsc, tmp_path):
    given = digits.given()
    fou = given["fou"][:3].copy()
    fou[2] = np.nan
    np.savez(tmp_path / "new.npz", pix=given["pix"][:3], fou=fou, **{"present/pix": np.array([True, False, True])})
    outcome = cpsc("predict", digits.run, tmp_path / "new.npz")
    assert [json.loads(line)["missing"] for line in outcome.out.splitlines()] == [[], ["pix"], ["fou"]]


def test_standard_input(digits, expected, cpsc, monkeypatch):
    lines = [
        json.dumps({"id": str(row), **{m: x[k].tolist() for m, x in digits.given().items()}})
        for k, row in enumerate(digits.rows)
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    outcome = cpsc("predict", digits.run, "-")
    assert outcome.code == 0, outcome.err
    check([json.loads(line) for line in outcome.out.splitlines()], expected)


def test_rows_that_cannot_be_read_have_the_reason(digits, expected, cpsc, tmp_path):
    path = table(digits, tmp_path / "new.csv", digits.rows[:3])
    with path.open("a", encoding="utf-8") as file:
        file.write("short,1\nwords,a b,n,\nempty,,n,\nfile,nowhere.png,n,\n")
    outcome = cpsc("predict", digits.run, path, "--out", tmp_path / "out.csv", "--batch-size", 2)
    assert outcome.code == 2
    assert "4 of 7 samples could not be read: column error of" in outcome.err
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows[3:]] == ["3", "words", "empty", "file"]
    for row, reason in zip(
        rows[3:], ["row 3 must have 4 columns, got 2", "pix: ", "the sample has no modality", "got a file"], strict=True
    ):
        assert reason in row["error"]
        assert row["class"] == row["p_0"] == row["trust_pix"] == ""
    first, one = rows[0], next(iter(expected.values()))
    assert (first["class"], json.loads(first["set"]), first["error"]) == (one.label, list(one.prediction_set), "")
    assert float(first["p_3"]) == pytest.approx(one.probabilities["3"], abs=1e-6)


def test_parquet(digits, expected, cpsc, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow writes Parquet")
    path = table(digits, tmp_path / "new.csv", digits.rows[:5])
    assert cpsc("predict", digits.run, path, "--out", tmp_path / "out.parquet").code == 0
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, one in zip(rows, list(expected.values())[:5], strict=True):
        assert (row["class"], row["set"], row["missing"]) == (one.label, list(one.prediction_set), [])
        assert row["trust_fou"] == pytest.approx(one.trust["fou"], abs=1e-6)


class Stopped(Exception):
    pass


def test_an_interrupted_prediction_is_continued(digits, cpsc, tmp_path):
    path, out = table(digits, tmp_path / "new.csv", digits.rows), tmp_path / "out.csv"

    def stop(done, _all):
        if done >= 20:
            raise Stopped

    with pytest.raises(Stopped):
        predict_files(digits.run, [str(path)], out, batch_size=10, advance=stop)
    unfinished = tmp_path / "out.csv.unfinished"
    with unfinished.open("a", encoding="utf-8") as file:
        file.write('{"id": "half')
    assert not out.exists()
    refused = cpsc("predict", digits.run, path, "--out", out)
    assert refused.code == 2
    assert "continue it with --resume" in refused.err
    other = cpsc("predict", digits.run, path, "--out", out, "--resume", "--inference", "plain")
    assert other.code == 2
    assert "belongs to other inputs or another model" in other.err
    outcome = cpsc("predict", digits.run, path, "--out", out, "--resume", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert f"({len(digits.rows)} samples, 20 of them before)" in outcome.out
    assert not unfinished.exists()
    predict_files(digits.run, [str(path)], tmp_path / "again.csv")
    with out.open(newline="") as one, (tmp_path / "again.csv").open(newline="") as two:
        assert [row["set"] for row in csv.DictReader(one)] == [row["set"] for row in csv.DictReader(two)]


def test_changed_inputs_are_not_continued(digits, cpsc, tmp_path):
    path, out = table(digits, tmp_path / "new.csv", digits.rows[:9]), tmp_path / "out.csv"

    def stop(_done, _all):
        raise Stopped

    with pytest.raises(Stopped):
        predict_files(digits.run, [str(path)], out, batch_size=4, advance=stop)
    table(digits, path, digits.rows[1:9])
    outcome = cpsc("predict", digits.run, path, "--out", out, "--resume")
    assert outcome.code == 2
    assert f"its row 0 is of '{digits.rows[0]}', but the inputs have '{digits.rows[1]}'" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "absent.csv: no such file or folder"),
        (["new.txt"], "new.txt: must be a table (.csv, .tsv), JSON lines (.jsonl), arrays (.npz) or the folder"),
        (["other.csv"], "must hold at least one modality of pix, fou (it holds: id, image)"),
        (["other.npz"], "must hold at least one modality of pix, fou (it holds: image)"),
        (["uneven.npz"], "must have one row per sample, got pix 3, fou 2"),
        (["."], "the data set handwritten is not read from a folder"),
        (["other.csv", "--out", "out.xlsx"], "--out must end in .csv, .jsonl, .parquet, got 'out.xlsx'"),
        (["other.csv", "--resume"], "--resume needs --out"),
        (["other.csv", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["other.csv", "--workers", "-1"], "workers must be at least 0, got -1"),
        (["-", "--workers", "1"], "workers must be 0 for the standard input"),
    ],
)
def test_wrong_use(digits, cpsc, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.txt").touch()
    (tmp_path / "other.csv").write_text("id,image\na,b\n", encoding="utf-8")
    np.savez(tmp_path / "other.npz", image=np.zeros((3, 2)))
    np.savez(tmp_path / "uneven.npz", pix=np.zeros((3, 240)), fou=np.zeros((2, 76)))
    outcome = cpsc("predict", digits.run, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_run_that_is_moved_predicts_with_the_command(digits, cpsc, tmp_path):
    shutil.copytree(digits.run, tmp_path / "moved")
    outcome = cpsc("predict", tmp_path / "moved", table(digits, tmp_path / "new.csv", digits.rows[:2]), "-q")
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 2)
