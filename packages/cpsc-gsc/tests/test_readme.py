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
    assert len(BLOCKS) == 7
    assert set(names["rho"]) == {"audio", "image"}
    assert names["loss"].isfinite()
    assert all(p.isfinite().all() for p in names["model"].parameters())


def test_the_loop_with_the_loss_or_the_hook_takes_fifteen_lines():
    for block in BLOCKS[1], BLOCKS[3]:
        assert len([line for line in block.splitlines() if line.strip()]) <= 15
