"""Nonconformity scores: how poorly a label conforms to a row of probabilities or a forecast."""
