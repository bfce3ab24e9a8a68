"""The server over loopback: predictions, bad requests, and many requests at once."""

import base64
import importlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

for package in ("fastapi", "uvicorn"):
    pytest.importorskip(package, reason="in examples/requirements.txt")

import uvicorn  # noqa: E402

import cpsc_train  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    cpsc_train.train(replace(cpsc_train.recipe("handwritten", epochs=2), noise=()), folder)
    return cpsc_train.load(folder)


@pytest.fixture(scope="module")
def address(model):
    """Host and port of a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        app = importlib.import_module("serve").create_app(model)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.05)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


def ask(address, path, body):
    """Return the status and the JSON of a response."""
    connection = HTTPConnection(*address, timeout=60)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def plain(predictions):
    return json.loads(json.dumps([asdict(one) for one in predictions]))


def test_a_batch(address, model):
    samples = [{"pix": [0.0] * 240, "fou": [0.1] * 76}, {"fou": [0.2] * 76}, {"pix": [1.0] * 240, "fou": None}]
    columns = {m: [sample.get(m) for sample in samples] for m in ("pix", "fou")}
    assert ask(address, "/predict/batch", {"samples": samples}) == (200, plain(model.predict(columns)))


@pytest.mark.slow
def test_hundreds_of_requests_at_once(address, model):
    rng = np.random.default_rng(0)
    samples = [{"pix": rng.uniform(0, 6, 240).tolist(), "fou": rng.uniform(0, 1, 76).tolist()} for _ in range(300)]
    for sample in samples[::3]:
        del sample["pix"]
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda sample: ask(address, "/predict", sample), samples))
    expected = [plain(model.predict({m: [x] for m, x in sample.items()}))[0] for sample in samples]
    assert answers == [(200, one) for one in expected]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict", b'{"fou": [', 400, "the body must be JSON"),
        ("/predict", [1], 422, "body: Input should be a valid dictionary, got [1]"),
        ("/predict", {}, 422, "the sample has no modality of pix, fou"),
        ("/predict", {"fuo": [1]}, 422, "unknown modality 'fuo'; did you mean 'fou'"),
        ("/predict", {"fou": [0.1] * 7}, 422, "fou: must be numbers of shape (76,), got shape (7,)"),
        ("/predict", {"fou": [float("inf")] * 76}, 422, "fou: must hold finite numbers only"),
        ("/predict", {"fou": {"a": 1}}, 422, "fou: must be numbers, a text, or a file in Base64, got {'a': 1}"),
        ("/predict", {"fou": "/etc/hostname"}, 422, "fou: a string must be the content of a file in Base64"),
        ("/predict", {"fou": base64.b64encode(b"x").decode()}, 422, "must be numbers of shape (76,), got a file"),
        ("/predict/batch", {"samples": []}, 422, "body.samples: List should have at least 1 item"),
        ("/predict/batch", {"samples": [{}] * 257}, 422, "List should have at most 256 items"),
        ("/predict/batch", {"samples": [{"fou": [0.1] * 76}, {"fou": "?"}]}, 422, "sample 1: fou: a string must be"),
    ],
)
def test_a_bad_request_is_answered_with_a_sentence(address, path, body, status, message):
    found, answer = ask(address, path, body)
    assert (found, message in answer["detail"]) == (status, True), answer
