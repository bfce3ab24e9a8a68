"""Novelty scores: distance of an input from the training features, without a label."""
