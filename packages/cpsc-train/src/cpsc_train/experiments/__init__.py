"""Many runs: several seeds, several variants, and what they say together."""

from cpsc_train.experiments.ablation import AXES, parse_variants, variants
from cpsc_train.experiments.grid import Grid, parse_seeds
from cpsc_train.experiments.tables import Summary, console_table, summarise, write_tables

__all__ = [
    "AXES",
    "Grid",
    "Summary",
    "console_table",
    "parse_seeds",
    "parse_variants",
    "summarise",
    "variants",
    "write_tables",
]
