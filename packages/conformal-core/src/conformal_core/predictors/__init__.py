"""Predictors: a score, a memory and a level put together."""
