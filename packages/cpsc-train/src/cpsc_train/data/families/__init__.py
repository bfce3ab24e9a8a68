"""Kinds of data sets that several adapters share."""
