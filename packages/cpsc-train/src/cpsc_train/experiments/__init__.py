"""Many runs: several seeds, several variants, and what they say together."""

from cpsc_train.experiments.ablation import AXES, Variant, variants
from cpsc_train.experiments.grid import Grid, parse_seeds
from cpsc_train.experiments.tables import Summary, console_table, summarise, write_tables

__all__ = [
    "AXES",
    "Grid",
    "Summary",
    "Variant",
    "console_table",
    "parse_seeds",
    "summarise",
    "variants",
    "write_tables",
]
