"""Experiments: runs with several seeds and variants, their tables, and the search of options."""

from cpsc_train.experiments.ablation import AXES, parse_variants, variants
from cpsc_train.experiments.grid import Grid, parse_seeds
from cpsc_train.experiments.summary import Summary, console_table, summarise, write_tables

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
