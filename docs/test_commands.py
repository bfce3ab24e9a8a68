"""Check that ``cpsc`` accepts every command in the documentation."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from cpsc_train.cli import COMMANDS, parse
from cpsc_train.cli.hints import FLAGS

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/**/README.md")]
TEXTS = {page: page.read_text("utf-8").replace("\\\n", " ") for page in PAGES if "_build" not in page.parts}
LINES = sorted(
    {
        line.partition(" > ")[0]
        for text in TEXTS.values()
        for line in re.findall(r"^ *(cpsc [a-z].*)$", text, flags=re.MULTILINE)
        if "…" not in line
    }
)
INLINE = sorted({words for text in TEXTS.values() for words in re.findall(r"`cpsc ([a-z][^`]*)`", text)})


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_code_can_be_parsed(line):
    parse(shlex.split(re.split(r" {2,}then ", line)[0], comments=True)[1:])


@pytest.mark.parametrize("words", INLINE)
def test_a_command_in_a_sentence_is_there(words):
    name, *options = words.split()
    assert name in COMMANDS
    known = {f"--{field.name.replace('_', '-')}" for field in fields(COMMANDS[name])}
    known |= {f"--{name}" for name in FLAGS.values()}
    assert {option for option in options if option.startswith("--")} <= known
