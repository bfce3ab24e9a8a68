"""Each example runs as it is and learns."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1]
NEEDS = {
    "plain_loop": [],
    "two_resnets": ["torchvision"],
    "lightning_module": ["lightning"],
    "hugging_face_trainer": ["transformers", "accelerate"],
}


@pytest.fixture(autouse=True)
def one_thread():
    # Two threads that share two cores with another process are many times slower than one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_example_is_tested():
    others = {"conftest", "ordinary", "serve"}  # serve has a file of tests
    assert {p.stem for p in EXAMPLES.glob("*.py")} - others == set(NEEDS)


# The frameworks warn of each other's deprecations and of short runs; plain_loop, with torch alone, warns of nothing.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", [n for n in NEEDS if n != "plain_loop"])
def test_example_with_a_framework(name, monkeypatch):
    run(name, monkeypatch)


def test_plain_loop(monkeypatch):
    figures = run("plain_loop", monkeypatch)
    assert figures["coverage"] > 0.82  # 0.9 less four standard errors of 200 calibration and 400 test samples
    assert figures["set size"] < 1.5


def run(name, monkeypatch):
    for package in NEEDS[name]:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "ordinary", raising=False)
    figures = importlib.import_module(name).main()
    assert figures["accuracy"] > 0.6  # four classes: chance is .25
    return figures
