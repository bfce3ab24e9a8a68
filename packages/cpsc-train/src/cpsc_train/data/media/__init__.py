"""Decoders of sound, images, video, depth and text."""
