"""The calibration buffer: what it keeps after it was loaded, how it is shown, and where it lives."""

import numpy as np
import pytest

from conformal_core import CalibrationBuffer
from conformal_core._arrays import device as device_of


def filled(like=None):
    buffer = CalibrationBuffer(3, like=like)
    buffer.advance(2)
    buffer.overwrite([0, 2], [0.25, 0.5])
    return buffer


def test_a_loaded_buffer_keeps_its_own_dtypes():
    narrow = CalibrationBuffer(3, like=np.zeros((), dtype=np.float32))
    state = filled().state_dict()
    narrow.load_state_dict(state | {"scored_at": state["scored_at"].astype(np.int16)})
    assert (narrow.scores.dtype, narrow.ages.dtype) == (np.float32, np.int64)
    assert narrow.scores.tolist() == [0.25, np.inf, 0.5]
    assert narrow.ages.tolist() == [0, 3, 0]
    narrow.advance(1 << 20)
    narrow.overwrite([1], [0.75])
    assert narrow.ages.tolist() == [1 << 20, 0, 1 << 20]


def test_a_state_and_its_buffers_share_no_memory():
    made, loaded = filled(), CalibrationBuffer(3)
    state = made.state_dict()
    loaded.load_state_dict(state)
    for buffer in (made, loaded):
        buffer.advance()
        buffer.overwrite(slice(0, 3), [0.0, 0.0, 0.0])
    assert state["scores"].tolist() == [0.25, np.inf, 0.5]
    assert state["scored_at"].tolist() == [2, -1, 2]
    assert state["step"] == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("library", "where"), [("numpy", None), ("array_api_strict", None), ("torch", "cpu"), ("torch", "meta")]
)
def test_a_buffer_shows_the_source_that_rebuilds_it(library, where, dtype):
    xp = pytest.importorskip(library)
    like = xp.zeros((), dtype=getattr(xp, dtype), **({"device": where} if where else {}))
    shown = f", device={where!r}" if where else ""
    text = f"CalibrationBuffer(3, like={library}.zeros((), dtype={library}.{dtype}{shown}))"
    if (library, dtype) == ("numpy", "float64"):
        text = "CalibrationBuffer(3)"
    buffer = CalibrationBuffer(3, like=like)
    assert repr(buffer) == text
    rebuilt = eval(text, {"CalibrationBuffer": CalibrationBuffer, library: xp})  # noqa: S307  # what a user pastes
    for twin in (rebuilt, buffer.__sklearn_clone__()):
        assert repr(twin) == text
        assert (twin.scores.dtype, device_of(twin.scores)) == (like.dtype, device_of(like))


def test_a_buffer_stays_on_its_device():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    buffer = filled(strict.zeros((), device=device))
    loaded = CalibrationBuffer(3, like=strict.zeros((), device=device))
    loaded.load_state_dict(filled(strict.zeros(())).state_dict())
    for one in (buffer, loaded, buffer.__sklearn_clone__()):
        assert one.scores.device == one.ages.device == one.staleness.device == device
        assert one.quantile(alpha=0.5).device == device
    assert [float(score) for score in loaded.scores] == [0.25, np.inf, 0.5]
