"""Collect only the tests, not the scripts, so a missing package skips a single test."""

from pathlib import Path

collect_ignore = [path.name for path in Path(__file__).parent.glob("*.py")]
