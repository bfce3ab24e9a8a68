"""The table of differences names tests that exist, and the comparison fails where it should."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import agreement
import numpy as np
import pytest
from agreement import Cells, Difference, Tally, agrees

HERE = Path(__file__).parent


def test_every_row_names_a_quantity_and_occurs_once():
    rows = agreement.table()
    assert max(Counter(row[:3] for row in rows).values()) == 1
    for row in rows:
        source = (HERE / f"test_{row.library}.py").read_text(encoding="utf-8")
        assert f"@agrees\ndef test_{row.quantity}() -> " in source, row
        assert row.right in ("conformal-core", "both", row.library), row
        assert row.why.strip()


def test_the_table_of_the_readme_counts_the_rows():
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| ([\w-]+) \| [\d.]+ \| [\d,]+ \| [\d,]+ \| (\d+) \|$", readme, re.MULTILINE)
    counts = Counter(row.library.replace("_", "-") for row in agreement.table())
    assert {name: int(rows) for name, rows in stated} == {name: counts[name] for name, _ in stated}
    assert set(counts) <= {name for name, _ in stated}


def compare(monkeypatch: pytest.MonkeyPatch, condition: str | None, **conditions: list[bool]) -> Callable[[], None]:
    """Return a test of one cell that agrees and one that differs, and the row that explains a condition."""
    rows = [] if condition is None else [Difference("table", "quantity", condition, "both", "because")]
    monkeypatch.setattr(agreement, "table", lambda: rows)
    monkeypatch.setattr(agreement, "TALLIES", defaultdict(Tally))

    def test_quantity() -> Iterator[Cells]:
        yield Cells(np.asarray([1.0, 2.0]), np.asarray([1.0, 3.0]), conditions)

    return agrees(test_quantity)


def test_a_difference_without_a_row_fails(monkeypatch):
    with pytest.raises(AssertionError, match=r"no row explains\n  1 of 2, first at 1: .*2\.0.*3\.0.*\['tied'\]"):
        compare(monkeypatch, None, tied=[False, True])()


def test_a_row_explains_only_where_its_condition_holds(monkeypatch):
    compare(monkeypatch, "tied", tied=[False, True])()
    with pytest.raises(AssertionError, match="no row explains"):
        compare(monkeypatch, "tied", tied=[True, False])()


def test_a_row_that_does_not_occur_fails(monkeypatch):
    test = compare(monkeypatch, "tied", tied=[False, True], other=[True, False])
    rows = [Difference("table", "quantity", name, "both", "because") for name in ("tied", "other")]
    monkeypatch.setattr(agreement, "table", lambda: rows)
    with pytest.raises(AssertionError, match=r"no longer occur: \['other'\]"):
        test()


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance", "differ"),
    [
        (np.inf, np.inf, 0.0, False),
        (np.nan, np.nan, 0.0, False),
        (np.nan, 0.0, 1.0, True),
        (np.inf, 1e300, 1.0, True),
        (True, 1, 0.0, False),
        (1.0, np.nextafter(1.0, 2.0), 0.0, True),
        (1e6, 1e6 + 0.5, 1e-6, False),
        (1e-9, 2e-9, 1e-8, False),
    ],
)
def test_cells_differ_beyond_the_tolerance(ours, theirs, tolerance, differ):
    assert Cells(ours, theirs, tolerance=tolerance).differ().tolist() == [differ]
