"""Experiments: runs with several seeds and variants, their tables, and the search of options."""

from cpsc_train.experiments.grid import Grid, parse_divisions, parse_seeds
from cpsc_train.experiments.table import console_table, summarise, write_tables
from cpsc_train.experiments.variants import AXES, ablated, contenders, parse_variants, references, variants

__all__ = [
    "AXES",
    "Grid",
    "ablated",
    "console_table",
    "contenders",
    "parse_divisions",
    "parse_seeds",
    "parse_variants",
    "references",
    "summarise",
    "variants",
    "write_tables",
]
