"""The examples are scripts: only their tests are collected, so that a missing extra package skips one of them."""

from pathlib import Path

collect_ignore = [path.name for path in Path(__file__).parent.glob("*.py")]
