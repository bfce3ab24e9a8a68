"""Novelty scores: how unlike the training features an input is, without a label."""
