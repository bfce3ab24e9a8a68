"""Typed configuration: families of options, plain tables and TOML files, changes by dotted key."""

from cpsc_train.config.choice import Choice, unknown
from cpsc_train.config.convert import from_plain, to_plain
from cpsc_train.config.modules import import_modules, load_module, located
from cpsc_train.config.override import apply_settings, override
from cpsc_train.config.text import parse_json, read_toml, write_toml

__all__ = [
    "Choice",
    "apply_settings",
    "from_plain",
    "import_modules",
    "load_module",
    "located",
    "override",
    "parse_json",
    "read_toml",
    "to_plain",
    "unknown",
    "write_toml",
]
