"""What is saved of rows that wait for their labels, and what is refused in its place."""

import numpy as np
import pytest

from conformal_core.level.base import Threshold
from conformal_core.predictors._issued import Issued, keys_of_ids


def issued():
    one = Issued(10)
    one.put(keys_of_ids(["a", "b"], 2), 0.5, [0.25, 0.75])
    one.put(keys_of_ids([3], 1), Threshold(0.75, [(0.5, 1.0), (1.5, 2.0)]))
    return one


def test_draws_and_parts_come_back():
    other = Issued(10)
    other.load_state_dict(issued().state_dict())
    assert len(other) == 3
    for name, threshold, draw in (("b", 0.5, 0.75), (3, 0.75, 0.0), ("a", 0.5, 0.25)):
        row = other.take(keys_of_ids(name, 1)[0])
        assert row == (threshold, draw)
        assert getattr(row.threshold, "parts", ()) == (((0.5, 1.0), (1.5, 2.0)) if name == 3 else ())
    assert len(other) == 0


def test_the_largest_values_are_taken():
    """A byte of 255, a draw of 0 and one of 1, and as many rows as may wait."""
    state = issued().state_dict()
    state["keys"][-1] = 255
    state["draws"][:2] = 0, 1
    one = Issued(3)
    one.load_state_dict(state)
    assert one.state_dict()["draws"].tolist() == [0, 1, 0]
    assert one.state_dict()["keys"][-1] == 255


KEYS = "hold keys of bytes and places of thresholds, got others"
PARTS = "hold the parts of each threshold, got others"
PAIRS = "hold parts that are pairs of numbers, got others"


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("keys", lambda keys: np.where(np.arange(len(keys)) == 20, 256, keys.astype(int)), KEYS),
        ("keys", lambda keys: keys + 0.5 * (keys == keys.min()), KEYS),
        ("places", lambda places: places + 1, KEYS),
        ("places", lambda places: places * 0.5, KEYS),
        ("draws", lambda draws: draws + 0.5, r"hold draws in \[0, 1\], got others"),
        ("parts", lambda parts: parts[:1], PARTS),
        ("parts", lambda _: 3, PARTS),
        ("thresholds", lambda _: None, PARTS),
        ("parts", lambda parts: [parts[0], np.zeros(3)], PAIRS),
        ("parts", lambda parts: [parts[0], ["x", "y"]], PAIRS),
        ("parts", lambda parts: [parts[0], np.asarray([0.5, np.nan])], "hold parts that are not NaN, got nan"),
    ],
)
def test_a_state_of_other_rows_is_refused_and_nothing_changes(key, change, message):
    one = Issued(10)
    one.put(keys_of_ids(["z"], 1), 0.125)
    before, state = one.state_dict(), issued().state_dict()
    with pytest.raises(ValueError, match=f"^state of Issued must {message}"):
        one.load_state_dict({**state, key: change(state[key])})
    assert one.state_dict()["keys"].tolist() == before["keys"].tolist()
    assert one.take(keys_of_ids("z", 1)[0]) == (0.125, 0.0)


def test_thresholds_of_another_kind_are_refused():
    one = Issued(10)
    one.put(keys_of_ids(["a"], 1), 0.5)
    one.check_kind(0.25)
    with pytest.raises(ValueError, match=r"^state of Issued must hold thresholds such as the level issues"):
        one.check_kind(Threshold(0.5, [(0.5, 1.0)]))
