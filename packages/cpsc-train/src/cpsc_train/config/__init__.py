"""Typed configuration: named choices, plain-data conversion, ``key=value`` overrides. Knows nothing of training."""

from cpsc_train.config.choice import Choice, discover
from cpsc_train.config.convert import from_plain, to_plain
from cpsc_train.config.override import apply_overrides, read_toml, write_toml
from cpsc_train.config.text import parse_json

__all__ = ["Choice", "apply_overrides", "discover", "from_plain", "parse_json", "read_toml", "to_plain", "write_toml"]
