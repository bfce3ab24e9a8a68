"""The line and the warning on reliability."""

import io

from rich.console import Console

from cpsc_train.reporting.console import ConsoleObserver
from cpsc_train.reporting.figures import ConstantReliability, spread_text
from cpsc_train.reporting.log_file import LogFile
from cpsc_train.runs import RunFolder


def record(*, phase="self-calibration", epoch=3, **at_one):
    spread = {m: {"mean": x, "sd": 0.1, "at_one": x, "at_zero": 0.0} for m, x in at_one.items()}
    return {"epoch": epoch, "phase": phase, "spread": {"reliability": spread}}


def test_warning_is_given_once_and_not_in_warm_up():
    warning = ConstantReliability()
    assert warning(record(phase="warm-up", a=1.0)) is None
    assert warning(record(a=0.98, b=0.5)) is None
    text = warning(record(a=0.985, b=0.5, epoch=7))
    assert text.startswith("epoch 7: a has reliability 1 in 98.5% of the training rows: GSC")
    assert warning(record(a=1.0, b=1.0)) is None


def test_methods_without_reliability_have_no_line():
    plain = {"epoch": 1, "phase": "training"}
    assert spread_text(plain) == ""
    assert ConstantReliability()(plain) is None


def test_console_and_log_show_a_run(finished, tmp_path):
    text, log = io.StringIO(), tmp_path / "log"
    console, file = ConsoleObserver(Console(file=text, width=400), verbose=True), LogFile(log)
    records = RunFolder(finished).read_metrics()
    for one in records:
        if one["phase"] != "warm-up":
            for of in one["spread"]["reliability"].values():
                of["at_one"] = 0.999
        for observer in (console, file):
            observer.epoch(one)
    console.close()
    file.close()
    for shown in (text.getvalue(), log.read_text(encoding="utf-8")):
        assert shown.count("GSC gives them all the same weight") == 1
        assert "pix" in shown
        assert "(1 in 99.9%" in shown
