from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.config import Choice, from_plain, read_toml, to_plain, write_toml
from cpsc_train.errors import UserError


class Shape(Choice):
    pass


@dataclass(frozen=True, kw_only=True)
class Circle(Shape, name="circle"):
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Shape, name="square"):
    side: int
    label: str | None = None


Shape.register(Circle, Square)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shapes: dict[str, Shape]
    sizes: tuple[Circle, ...] = ()
    words: tuple[str, ...] = ()
    mode: Literal["line", "fill"] = "line"
    count: int = 1
    limit: int | None = 9


drawings = st.builds(
    Drawing,
    shapes=st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.builds(Circle, radius=st.floats(0, 1e6))
        | st.builds(Square, side=st.integers(-(2**60), 2**60), label=st.none() | st.text(max_size=5)),
        max_size=3,
    ),
    sizes=st.lists(st.builds(Circle, radius=st.floats(0, 9)), max_size=3).map(tuple),
    words=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    mode=st.sampled_from(["line", "fill"]),
    count=st.integers(-5, 5),
    limit=st.none() | st.integers(-5, 5),
)


@given(drawings)
def test_plain_data_and_back_is_the_same(drawing):
    assert from_plain(Drawing, to_plain(drawing)) == drawing


@given(drawings)
def test_a_toml_file_and_back_is_the_same(tmp_path_factory, drawing):
    path = tmp_path_factory.mktemp("toml") / "drawing.toml"
    write_toml(path, to_plain(drawing))
    assert from_plain(Drawing, read_toml(path)) == drawing


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"shapes": {"a": {"name": "circel"}}}, "unknown shape 'circel'; did you mean 'circle'?"),
        ({"shapes": {"a": {"radius": 1}}}, "shapes.a.name is missing"),
        ({"shapes": {"a": {"name": "circle", "radios": 1}}}, "did you mean 'shapes.a.radius'?"),
        ({"shapes": {"a": {"name": "square"}}}, "shapes.a: missing 1 required keyword-only argument: 'side'"),
        ({"shapes": {"a": {"name": "square", "side": 1.5}}}, "shapes.a.side must be int, got 1.5"),
        ({"shapes": {"a": {"name": "square", "side": "1"}}}, "shapes.a.side must be int, got '1'"),
        ({"shapes": [1]}, "shapes must be a table, got [1]"),
        ({"shapes": {}, "mode": "dots"}, "mode must be one of line, fill, got 'dots'"),
        ({"shapes": {}, "sizes": [{"name": "circle", "radius": "x"}]}, "sizes[0].radius must be float, got 'x'"),
        ({"shapes": {}, "words": "one"}, "words must be array, got 'one'"),
        ({"shapes": {}, "counts": 1}, "unknown key 'counts'; did you mean 'count'?"),
        ({}, "configuration: missing 1 required keyword-only argument: 'shapes'"),
    ],
)
def test_bad_tables_are_refused_by_their_place(table, message):
    with pytest.raises(UserError) as error:
        from_plain(Drawing, table)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.toml"):
        read_toml(path)
