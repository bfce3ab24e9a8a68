"""Memories: past scores and their order statistics."""
