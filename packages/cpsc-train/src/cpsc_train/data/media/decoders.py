"""Versions of the libraries that decode media, on which colours and samples depend to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version


def _av() -> str:
    import av  # noqa: PLC0415  # an extra

    return ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in sorted(av.library_versions.items()))


def _pillow() -> str:
    from PIL import features  # noqa: PLC0415  # an extra

    return f"libjpeg {features.version('libjpeg_turbo') or features.version('jpg')}"


def _soundfile() -> str:
    import soundfile  # noqa: PLC0415  # an extra

    return f"libsndfile {soundfile.__libsndfile_version__}"


INNER: dict[str, Callable[[], str]] = {"av": _av, "pillow": _pillow, "soundfile": _soundfile}
"""By package, the versions of the libraries it wraps."""
DECODERS = tuple(INNER)


def versions(packages: Sequence[str] = DECODERS) -> dict[str, str]:
    """Return the versions of the installed ones of `packages`, and of the libraries they wrap.

    Examples
    --------
    >>> list(versions(["scipy", "no-such-package"]))
    ['scipy']
    """
    installed = {}
    for package in packages:
        try:
            inner = f" ({INNER[package]()})" if package in INNER else ""
            installed[package] = version(package) + inner
        except (ImportError, PackageNotFoundError, OSError):  # soundfile raises OSError if its library is missing
            continue
    return installed
