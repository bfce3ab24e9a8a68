"""Methods, data sets, encoders and recipes of other distributions, and lists that miss none of ours."""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module, invalidate_caches

import pytest

from cpsc_train.config.choice import plugin_names
from cpsc_train.data import DataConfig, adapters
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.models import EncoderConfig, encoders
from cpsc_train.recipes import names, recipe
from cpsc_train.training import RunConfig

CODE = """
from dataclasses import dataclass, replace

from cpsc_train.methods.joint import JointConfig
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.recipes import RECIPES


@dataclass(frozen=True, kw_only=True)
class MineConfig(JointConfig, name="mine"):
    \"\"\"A method of another distribution.\"\"\"

    strength: float = 0.5
    \"\"\"How strong it is.\"\"\"


@dataclass(frozen=True, kw_only=True)
class WideConfig(MLPConfig, name="wide"):
    hidden: int = 512


def small(mode, modalities):
    built = RECIPES["handwritten"](mode, modalities)
    return replace(built, config=replace(built.config, recipe="small", epochs=2))
"""
POINTS = """
[cpsc_train.methods]
mine = strangers:MineConfig
absent = strangers:AbsentConfig
other-name = strangers:MineConfig
no-method = strangers:small

[cpsc_train.encoders]
wide = strangers:WideConfig

[cpsc_train.recipes]
small = strangers:small
value = strangers:CODE
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Install a distribution with a method, an encoder, a recipe and four broken entry points."""
    (tmp_path / "strangers.py").write_text(CODE + "\nCODE = 3\n")
    info = tmp_path / "strangers-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for family in (MethodConfig, EncoderConfig):
        monkeypatch.setattr(family, "members", dict(family.members))
    invalidate_caches()
    yield info
    sys.modules.pop("strangers", None)


def test_members_of_another_distribution_are_configured_by_name(strangers):
    assert "strangers" not in sys.modules
    table = recipe("small").to_plain()
    table["method"] = {"name": "mine", "strength": 0.25}
    table["encoders"]["fou"] = {"name": "wide"}
    config = RunConfig.from_plain(table)
    assert (config.epochs, config.method.strength, config.encoders["fou"].hidden) == (2, 0.25, 512)
    assert RunConfig.from_plain(config.to_plain()) == config


def test_they_are_listed_and_suggested(strangers, cpsc):
    (strangers / "entry_points.txt").write_text("[cpsc_train.methods]\nmine = strangers:MineConfig\n")
    assert plugin_names("cpsc_train.methods") == ["mine"]
    assert plugin_names("cpsc_train.datasets") == []
    with pytest.raises(UserError, match="unknown method 'mien'; did you mean 'mine'"):
        MethodConfig.named("mien")
    assert "strangers" not in sys.modules  # a name is no reason to import
    assert re.search(r"^ mine +A method", cpsc("methods", "list").out, flags=re.MULTILINE)
    shown = cpsc("methods", "show", "mine")
    assert "How strong it is." in shown.out
    assert cpsc("data", "list").code == cpsc("recipes", "list").code == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MethodConfig.named("absent"), "cpsc_train.methods: absent = strangers:AbsentConfig cannot be loaded"),
        (lambda: MethodConfig.named("other-name"), "must have the name 'other-name', got 'mine'"),
        (lambda: MethodConfig.named("no-method"), "must be a subclass of MethodConfig, got <function small"),
        (lambda: recipe("value"), "cpsc_train.recipes: value = strangers:CODE must be callable, got 3"),
        (MethodConfig.installed, "cannot be loaded"),
    ],
)
def test_a_broken_plugin_names_its_distribution_and_entry_point(strangers, call, message):
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value).startswith("plug-in of strangers 1.2: entry point cpsc_train.")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_plugin_is_one_sentence_of_the_command(strangers, cpsc):
    outcome = cpsc("methods", "list")
    assert outcome.code == 2
    assert outcome.err.startswith("cpsc: error: plug-in of strangers 1.2")
    assert outcome.err.count("\n") == 1
    assert {"small", "value"} < set(names())


@pytest.mark.parametrize(
    ("package", "family"),
    [("methods", MethodConfig), ("data.adapters", DataConfig), ("models.encoders", EncoderConfig)],
)
def test_every_file_of_ours_is_in_its_list(package, family):
    home = import_module(f"cpsc_train.{package}")
    for module in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
        for item in vars(import_module(module.name)).values():
            if isinstance(item, type) and issubclass(item, family) and item.name and item.__module__ == module.name:
                assert family.members[item.name] is item
    assert adapters
    assert encoders
