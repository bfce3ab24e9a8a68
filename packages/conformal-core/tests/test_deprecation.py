import pytest

from conformal_core.deprecation import OPEN, deprecated, renamed


@pytest.fixture(autouse=True)
def nothing_stays_open():
    before = list(OPEN)
    yield
    OPEN[:] = before


def test_a_class_warns_where_it_is_used():
    @deprecated("New", package="mine", since="0.2", until="0.4")
    class Old:
        def __init__(self, x):
            self.x = x

    with pytest.warns(
        DeprecationWarning, match=r"Old is deprecated since mine 0\.2 and will be gone in 0\.4: use New"
    ) as seen:
        assert Old(3).x == 3
    assert seen[0].filename == __file__
    assert OPEN[-1].name.endswith("Old")


def test_a_keyword_goes_by_both_names_but_not_at_once():
    @renamed("level", "alpha", package="mine", since="0.2", until="0.4")
    def f(x, *, alpha=0.5):
        return x, alpha

    assert f(1, alpha=0.2) == (1, 0.2)
    assert f(1) == (1, 0.5)
    with pytest.warns(DeprecationWarning, match="use alpha"):
        assert f(1, level=0.2) == (1, 0.2)
    with pytest.raises(TypeError, match="takes alpha or, as it was called, level, got both"):
        f(1, level=0.2, alpha=0.2)
