import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(*numbers):
    """Run blocks one after another, as a reader would paste them; return what they made and printed."""
    names, out = {"__name__": "readme"}, io.StringIO()
    with contextlib.redirect_stdout(out):
        for number in numbers:
            exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), names)  # noqa: S102
    return names, out.getvalue()


def test_calibrate_and_predict():
    names, out = run(0)
    assert names["sets"].shape == (2000, 5)
    assert "0.903" in out


def test_the_stream_prints_what_the_comment_says():
    names, out = run(0, 1)
    fixed, adapted = map(float, out.split()[-2:])
    assert fixed == pytest.approx(0.66, abs=0.005)
    assert adapted == pytest.approx(0.90, abs=0.005)
    assert len(names["hits"]) == 3500


def test_the_alarm_comes_after_the_shift():
    _, out = run(0, 2)
    noticed, row = out.split()[-2:]
    assert noticed == "False"
    assert 10 < int(row) < 80


def test_no_block_is_left_out():
    assert len(BLOCKS) == 3
    assert np.isfinite(run(0)[0]["probs"]).all()
