"""Tests of exchangeability on a stream: p-values, martingales that bet on them, and an alarm."""
