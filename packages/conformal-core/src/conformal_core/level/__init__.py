"""Levels: rules that set the threshold (or the miscoverage) of the next prediction set."""
