"""Nonconformity scores: how odd a label is, for a row of probabilities or a forecast."""
