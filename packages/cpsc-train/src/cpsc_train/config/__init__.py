"""Typed configuration: families of options, plain tables and TOML files, changes by dotted key."""

from cpsc_train.config.choice import Choice, unknown
from cpsc_train.config.convert import (
    apply_settings,
    from_plain,
    override,
    parse_choice,
    parse_json,
    read_toml,
    to_plain,
    write_toml,
)
from cpsc_train.config.modules import import_modules, load_module, located

__all__ = [
    "Choice",
    "apply_settings",
    "from_plain",
    "import_modules",
    "load_module",
    "located",
    "override",
    "parse_choice",
    "parse_json",
    "read_toml",
    "to_plain",
    "unknown",
    "write_toml",
]
