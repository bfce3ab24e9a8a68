"""Serve the model of a run over HTTP: ``python examples/serve.py runs/A --port 8000``.

A sample is a JSON object with an entry for each modality that it has: numbers as nested lists, a text as a string, or
the content of any other file, such as an image, in Base64.

::

    curl localhost:8000/predict --json '{"fou": [0.1, 0.2, ...]}'
    curl localhost:8000/predict/batch --json '{"samples": [{"fou": [...]}, {"pix": [...]}]}'
"""

import argparse
import base64
import binascii
from dataclasses import asdict
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import cpsc_train

MOST = 256
"""Most samples in a request."""
Sample = Annotated[dict[str, Any], Body()]


class Samples(BaseModel):
    """Body of a request for several samples."""

    samples: list[dict[str, Any]] = Field(min_length=1, max_length=MOST)


def create_app(model: cpsc_train.Model) -> FastAPI:
    """Return the application; requests are read in parallel, and the model predicts them one after another."""
    app = FastAPI(title="cpsc-train")

    @app.get("/model")
    def describe() -> dict[str, Any]:
        """Return inputs, classes, and the miscoverage of the prediction sets."""
        inputs = {m: modality.summary for m, modality in model.modalities.items()}
        return {"inputs": inputs, "classes": model.classes, "alpha": model.alpha, "inference": model.inference}

    @app.post("/predict")
    def predict(sample: Sample) -> dict[str, Any]:
        """Predict one sample."""
        return asdict(model.predict_inputs([read(model, sample)])[0])

    @app.post("/predict/batch")
    def predict_batch(body: Samples) -> list[dict[str, Any]]:
        """Predict several samples."""
        inputs = []
        for place, sample in enumerate(body.samples):
            try:
                inputs.append(read(model, sample))
            except cpsc_train.UserError as error:
                raise cpsc_train.UserError(f"sample {place}: {error}") from None
        return [asdict(prediction) for prediction in model.predict_inputs(inputs)]

    @app.exception_handler(cpsc_train.UserError)
    def refuse_sample(_request: Request, error: cpsc_train.UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(RequestValidationError)
    def refuse_body(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse({"detail": f"the body must be JSON: {first['ctx']['error']}"}, status_code=400)
        name = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{name}: {first['msg']}, got {first['input']!r:.80}"}, status_code=422)

    return app


def read(model: cpsc_train.Model, sample: dict[str, Any]) -> dict[str, Any]:
    """Return the model's inputs of a sample. No string is taken for a path: clients must not read files of the server.

    Raises
    ------
    UserError
        If it cannot be read; names the modality, the rule and the value.
    """
    kinds = {m: modality.kind for m, modality in model.modalities.items()}
    values = {}
    for m, value in sample.items():
        if isinstance(value, dict):
            raise cpsc_train.UserError(f"{m}: must be numbers, a text, or a file in Base64, got {value!r:.80}")
        values[m] = content(m, value) if isinstance(value, str) and kinds.get(m) != "text" else value
    return model.read(values)


def content(m: str, value: str) -> bytes:
    """Return the content of a file in Base64."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        message = f"{m}: a string must be the content of a file in Base64 ({error}), got {value!r:.80}"
        raise cpsc_train.UserError(message) from None


def main() -> None:
    """Serve the model of a run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", help="run folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    options = parser.parse_args()
    try:
        model = cpsc_train.load(options.run)
    except cpsc_train.UserError as error:
        parser.error(str(error))
    uvicorn.run(create_app(model), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
