"""Bases that data sets of one family share: recordings with sound and frames, colour with depth."""
