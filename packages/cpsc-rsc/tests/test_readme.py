import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names():
    """Run the blocks one after the other, as a reader would paste them."""
    torch.manual_seed(0)
    names = {"__name__": "readme"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md, block {number}", "exec"), names)  # noqa: S102
    return names


def test_every_block_runs(names):
    assert len(BLOCKS) == 6
    assert all(p.isfinite().all() for p in (*names["model"].parameters(), *names["rsc"].parameters()))
    assert set(names["by_decision"]) == {"audio", "image"}


def test_the_loop_takes_fifteen_lines():
    assert len([line for line in BLOCKS[1].splitlines() if line.strip()]) <= 15
