"""Memories: the scores a new one is compared with."""
