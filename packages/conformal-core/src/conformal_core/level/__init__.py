"""Levels: how strict a set is to be now."""
