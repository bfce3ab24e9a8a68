"""Readers of single samples, one for each kind of modality: from a file, bytes, a text or an array to a model input."""

from cpsc_train.data.readers.base import Reader, SeriesReader, TextReader
from cpsc_train.data.readers.images import DepthReader, ImageReader
from cpsc_train.data.readers.recordings import FramesReader, SoundReader

__all__ = ["DepthReader", "FramesReader", "ImageReader", "Reader", "SeriesReader", "SoundReader", "TextReader"]
