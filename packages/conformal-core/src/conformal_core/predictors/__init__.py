"""Predictors: a score, a memory and a level combined."""
