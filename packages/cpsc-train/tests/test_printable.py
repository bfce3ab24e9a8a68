"""Text of others is no markup, and no control character of it reaches the terminal."""

from __future__ import annotations

import ast
import io
import warnings
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

import cpsc_train
from cpsc_train import __main__ as entry
from cpsc_train.cli import main
from cpsc_train.experiments.table import Table as Cells
from cpsc_train.output import Output, column, print_error, show_warning
from cpsc_train.printable import printable, visible, without_credentials
from cpsc_train.reporting.console import ConsoleObserver
from cpsc_train.reporting.log_file import LogFile
from cpsc_train.reporting.report.page import escape

EVIL = "[/v2][red]\x1b[31m\x07\x9b1m\u202e:smile:\udcff"
SAFE = r"[/v2][red]\x1b[31m\x07\x9b1m\u202e:smile:\udcff"


def test_control_characters_are_shown():
    assert visible(EVIL) == SAFE
    assert visible("a\r\nb\tc\u2028d") == "a\\r\nb\tc\\u2028d"
    assert visible("a\nb\tc", line=True) == r"a\nb\tc"
    assert visible("μ ± 1, 数字, é") == "μ ± 1, 数字, é"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("--root s3://key:secret@bucket/a", "--root s3://***@bucket/a"),
        ("root = 'https://token@host/a?sig=1f&b=2'", "root = 'https://***@host/a?***'"),
        ("s3://bucket/a: no such file", "s3://bucket/a: no such file"),
        ("mail a@b.org, C:/a?b", "mail a@b.org, C:/a?b"),
        ("https://a/@b", "https://a/@b"),
    ],
)
def test_passwords_in_addresses_are_hidden(text, safe):
    assert without_credentials(text) == safe
    assert printable(text) == safe


def test_whatever_is_printed_is_shown_as_it_is():
    file = io.StringIO()
    output = Output(file=file)
    table = Table(EVIL, title=EVIL, caption=EVIL)
    table.add_row(EVIL)
    output.print(EVIL, soft_wrap=True)
    output.print(table)
    with Progress(column("{task.description}"), console=output) as progress:
        progress.add_task("[/v2]", total=1)
    text = file.getvalue()
    assert text.count(SAFE) == 5, text
    assert "[/v2]" in text.splitlines()[-1]
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\udcff"} & set(text)


def test_the_lines_of_a_run_are_shown_as_they_are(tmp_path):
    file = io.StringIO()
    about = {"recipe": EVIL, "method": EVIL, "seed": 0, "data": {"name": EVIL, "rows": 4, "classes": 2}}
    about["steps"] = {"per_epoch": 20, "batch_size": 64, "accumulate": 1}
    about["data"] |= {
        "modalities": [EVIL],
        "inputs": {EVIL: EVIL},
        "train": 1,
        "calibration": 1,
        "validation": 1,
        "test": 1,
    }
    for observer in (ConsoleObserver(Output(file=file)), LogFile(tmp_path / "log")):
        observer.dropped([EVIL])
        observer.start(about, epochs=1, path=tmp_path / "exp[/v2]", done=0)
        observer.close()
    for text in (file.getvalue(), (tmp_path / "log").read_text()):
        assert "exp[/v2]" in text.replace("\n", "")
        assert r"\x1b[31m" in text
        assert "\x1b" not in text


def test_errors_are_shown_as_they_are(capsys, tmp_path):
    print_error(EVIL)
    assert main(["report", str(tmp_path / "a\x1b[31m")]) == 2
    assert main(["train", "--config", "s3://key:secret@bucket/\x1b"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--sed\x1b[31m", "3"])
    said = capsys.readouterr()
    assert r"--sed\x1b[31m" in said.err
    assert r"a\x1b[31m: no such folder" in said.err
    assert "secret" not in said.err
    assert "\x1b" not in said.err + said.out


def test_warnings_are_shown_as_they_are(capsys, monkeypatch):
    """As those of matplotlib, which hold the sign that a font lacks."""
    monkeypatch.setattr(warnings, "showwarning", show_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"Glyph 27 ({EVIL}) missing", stacklevel=1)
    said = capsys.readouterr().err
    assert f"UserWarning: Glyph 27 ({SAFE}) missing" in said
    assert "\x1b" not in said
    assert "warnings.showwarning = show_warning" in Path(entry.__file__).read_text(encoding="utf-8")


def test_tables_are_no_markup():
    assert Cells("", [r"a|b\c"], [["<b>*x*"]]).markdown() == "| a\\|b\\\\c |\n| --- |\n| &lt;b&gt;\\*x\\* |\n"
    assert escape("<b>\x1b") == r"&lt;b&gt;\x1b"


def test_one_place_prints():
    """A `print`, a console or a Text anywhere else would be a way around it."""
    root = Path(cpsc_train.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in {"print", "Console", "Text", "TextColumn"} and path.name != "output.py":
                found.append(f"{path.relative_to(root)}:{node.lineno} {called}")
    assert found == []


def test_a_notebook_is_no_terminal(monkeypatch):
    """Kernels set FORCE_COLOR, for which a progress bar would print a line at each update."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = Output(file=io.StringIO())
    output.print("[bold]plain[/bold]", style="bold")
    assert (output.is_terminal, output.file.getvalue()) == (False, "[bold]plain[/bold]\n")
