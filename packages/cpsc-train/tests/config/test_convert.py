from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.config import Choice, apply_overrides, from_plain, read_toml, to_plain, write_toml
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe
from cpsc_train.training import RunConfig


class Shape(Choice):
    pass


@dataclass(frozen=True, kw_only=True)
class Circle(Shape, name="circle"):
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Shape, name="square"):
    side: int
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shapes: dict[str, Shape]
    sizes: tuple[Circle, ...] = ()
    words: tuple[str, ...] = ()
    mode: Literal["line", "fill"] = "line"
    count: int = 1


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


def test_overrides_read_toml_values_and_plain_words():
    table = {"a": {"b": 1}, "c": "x"}
    changed = apply_overrides(table, ["a.b=2.5", "a.new=[1, 2]", "c=js", "d.e=true"])
    assert changed == {"a": {"b": 2.5, "new": [1, 2]}, "c": "js", "d": {"e": True}}
    assert table == {"a": {"b": 1}, "c": "x"}


def test_another_name_drops_the_options_of_the_former_choice():
    table = {"shape": {"name": "circle", "radius": 2.0}}
    assert apply_overrides(table, ["shape.name=square", "shape.side=3"]) == {"shape": {"name": "square", "side": 3}}
    assert apply_overrides(table, ["shape.name=circle"]) == table


@pytest.mark.parametrize("item", ["a", "=1", "c.d=1"])
def test_a_bad_override_is_refused(item):
    with pytest.raises(UserError):
        apply_overrides({"c": "x"}, [item])


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.toml"):
        read_toml(path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimizer.lr=nan", "optimizer.lr must be finite, got nan"),
        ("optimizer.weight_decay=nan", "optimizer.weight_decay must be finite, got nan"),
        ("method.a=inf", "method.a must be finite, got inf"),
        ("splits.calibration=inf", "splits.calibration must be finite, got inf"),
        ("splits.seed=-1", r"splits.seed must lie in \[0, 2\^63\), got -1"),
        ("corruption.seed=-1", r"corruption.seed must lie in \[0, 2\^63\), got -1"),
        ("noise=[{modality='pix',kind='gaussian',severity=1.0,seed=-1}]", r"noise\[0\].seed must lie in"),
        ("encoders.fou.hidden=99999999999999999999", r"encoders.fou.hidden must be below 2\^63"),
    ],
)
def test_a_number_that_no_option_means_is_refused(setting, said):
    with pytest.raises(UserError, match=said):
        RunConfig.from_plain(apply_overrides(recipe("handwritten").to_plain(), [setting]))
