"""The help of the commands: its size, its examples, and one grammar for all."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import fields

import pytest

from cpsc_train import __version__
from cpsc_train.cli import COMMANDS, parse
from cpsc_train.cli.options import RunOptions

LINES = [
    (name, line.strip())
    for name, kind in COMMANDS.items()
    for line in kind.examples.splitlines()
    if line.startswith("  cpsc ")
]


def rows(text, width):
    """Count the lines of a terminal of so many columns."""
    return sum(max(1, math.ceil(len(line) / width)) for line in text.rstrip().splitlines())


def test_help_is_a_line_for_each_command(cpsc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = cpsc("--help")
    assert outcome.code == 0
    assert rows(outcome.out, 80) <= 14 + len(COMMANDS), outcome.out
    for name, kind in COMMANDS.items():
        assert re.search(rf"^.*\b{name} +{re.escape(kind.__doc__)}[ │|]*$", outcome.out, flags=re.MULTILINE)
    assert "internal error (a bug; please report it)" in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_a_screen_and_begins_with_examples(cpsc, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    outcome = cpsc(name, "--help")
    assert outcome.code == 0
    assert rows(outcome.out, 100) <= 49, outcome.out
    assert COMMANDS[name].__doc__ in outcome.out
    assert outcome.out.index(f"  cpsc {name}") < outcome.out.index("-h, --help")


@pytest.mark.parametrize(("name", "line"), LINES)
def test_every_example_can_be_parsed(name, line):
    command = re.split(r"\s{2,}| > ", line)[0]
    options = shlex.split(command)[1:]
    assert isinstance(parse(options), COMMANDS[options[0]])
    assert name in COMMANDS


def test_commands_that_configure_runs_share_their_options():
    for name in ("train", "ablate", "benchmark", "tune"):
        assert issubclass(COMMANDS[name], RunOptions)
    names = {field.name for field in fields(RunOptions)}
    assert names == {"augment", "modules", "recipe", "config", "missing", "mode", "root", "modalities", "set"}
    assert {"root", "set"} <= {field.name for field in fields(COMMANDS["data"])}


@pytest.mark.parametrize("value", ["2024", "true", "1.5", "[1]", "nan"])
def test_an_option_that_is_text_stays_text(value):
    command = parse(["train", "--recipe", "crema-d", "--root", value])
    assert command.root == value
    assert command.configuration().data.root == value
    assert parse(["train", "--method", "1"]).method == "1"


def test_the_version_is_printed(cpsc):
    assert cpsc("--version").out == f"cpsc-train {__version__}\n"


@pytest.mark.parametrize("command", ["recipes", "methods", "data"])
def test_lists_are_the_default_and_what_is_shown_is_named(cpsc, command):
    assert cpsc(command).out == cpsc(command, "list").out
    assert re.search(f"cpsc {command} show needs a name, one of", cpsc(command, "show").err)
    assert re.search("did you mean", cpsc(command, "show", "hand-written" if command != "methods" else "cpcs").err)
    assert cpsc(command, "show", "handwritten" if command != "methods" else "cpsc").code == 0


def test_root_is_refused_where_the_data_is_embedded(cpsc):
    assert "--root: the data set handwritten is not read from a folder" in cpsc("train", "--root", "x").err
