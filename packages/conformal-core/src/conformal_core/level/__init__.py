"""Levels: how strict to be now. A level knows scores and thresholds, never a model."""
